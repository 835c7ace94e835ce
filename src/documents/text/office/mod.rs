//! Microsoft Office documents, through undoc.

mod notes;

use std::collections::HashMap;

use undoc::model::{Block, Document, Paragraph, Section, Table};
use undoc::render::{RenderOptions, render_section_to_string, to_markdown};
use undoc::{Error, FormatType};

use super::archive::Archive;
use super::bounds::Bounds;
use super::{Output, Page, Text, failure};
use crate::sandbox::JobError;

pub(super) fn extract(bytes: &[u8], output: Output, bounds: &Bounds) -> Result<Text, JobError> {
    // The older formats are no archives, and as large as they are.
    if bytes.starts_with(b"PK") {
        Archive::open(bytes, bounds)?.check()?;
    }
    let mut document = undoc::parse_bytes(bytes).map_err(|error| match error {
        Error::Encrypted => failure::encrypted(),
        Error::UnsupportedFormat(_) => failure::unsupported("this Office format is too old"),
        _ => failure::malformed("office document"),
    })?;
    if matches!(document.format, FormatType::Pptx | FormatType::Ppt) {
        // undoc's names only number the slides.
        document.sections.iter_mut().for_each(|slide| slide.name = None);
    }
    if document.format == FormatType::Pptx
        && let Some(notes) = notes::read(bytes, bounds)
    {
        for (slide, notes) in document.sections.iter_mut().zip(notes) {
            slide.notes = (!notes.is_empty()).then_some(notes);
        }
    }
    Ok(match document.format {
        FormatType::Docx | FormatType::Doc => Text::whole(whole(&document, output)),
        FormatType::Xlsx | FormatType::Pptx | FormatType::Xls | FormatType::Ppt => {
            let sections = document.sections.iter().enumerate();
            let pages = sections.map(|(index, section)| Page {
                number: index + 1,
                title: section.name.clone().or_else(|| heading(section)),
                text: part(section, index, document.format, output),
            });
            Text::of_pages(pages.collect())
        }
    })
}

/// The references of images are left out: nobody writes their files.
fn options() -> RenderOptions {
    RenderOptions {
        escape_special_chars: false,
        include_headers_footers: true,
        include_images: false,
        ..RenderOptions::default()
    }
}

fn whole(document: &Document, output: Output) -> String {
    match output {
        Output::Markdown => to_markdown(document, &options()).unwrap_or_default(),
        Output::Plain | Output::Layout => {
            let sections: Vec<_> = document.sections.iter().map(plain).collect();
            sections.join("\n")
        }
    }
}

fn part(section: &Section, index: usize, format: FormatType, output: Output) -> String {
    match output {
        Output::Markdown => {
            let none = HashMap::new();
            let text = render_section_to_string(section, index, format, &options(), &none);
            text.trim_start_matches("\n---\n").trim().to_owned()
        }
        Output::Plain | Output::Layout => match &section.name {
            Some(name) => format!("{name}\n{}", plain(section)),
            None => plain(section),
        },
    }
}

/// The first heading, which is a slide's title.
fn heading(section: &Section) -> Option<String> {
    section.content.iter().find_map(|block| match block {
        Block::Paragraph(paragraph) if paragraph.is_heading() => Some(paragraph.plain_text()),
        _ => None,
    })
}

/// A line for each row, with tabs between its cells; the tables within them
/// come after it.
fn rows(table: &Table, lines: &mut Vec<String>) {
    for row in &table.rows {
        let cells = row.cells.iter().map(|cell| cell.plain_text().replace(['\n', '\t'], " "));
        lines.push(cells.collect::<Vec<_>>().join("\t"));
        let nested = row.cells.iter().flat_map(|cell| &cell.nested_tables);
        nested.for_each(|table| rows(table, lines));
    }
}

/// Blocks one below the other, table cells divided by tabs.
fn plain(section: &Section) -> String {
    let mut lines = Vec::new();
    let header = section.header.iter().flatten().map(Paragraph::plain_text);
    lines.extend(header);
    for block in &section.content {
        match block {
            Block::Paragraph(paragraph) => lines.push(paragraph.plain_text()),
            Block::Table(table) => rows(table, &mut lines),
            Block::Note { label, content } => {
                let note: Vec<_> = content.iter().map(Paragraph::plain_text).collect();
                lines.push(format!("[{label}] {}", note.join("\n")));
            }
            Block::Image { alt_text, .. } => lines.extend(alt_text.clone()),
            Block::PageBreak | Block::SectionBreak => {}
        }
    }
    let notes = section.notes.iter().flatten().map(Paragraph::plain_text);
    lines.extend(notes);
    lines.extend(section.footer.iter().flatten().map(Paragraph::plain_text));
    lines.join("\n")
}
