//! OpenDocument text, spreadsheets and presentations: their XML is written as
//! HTML and rendered as such.

use std::fmt::Write as _;

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::archive::Archive;
use super::bounds::{Bounds, MAX_MARKUP};
use super::html::{escape, render};
use super::{Output, Page, Text, charset, failure};
use crate::sandbox::JobError;

/// Most copies of a cell that says it is repeated: producers fill a sheet's
/// 16,384 columns with one empty cell.
const MAX_REPEAT: usize = 64;

pub(super) fn extract(bytes: &[u8], output: Output, bounds: &Bounds) -> Result<Text, JobError> {
    let mut archive = Archive::open(bytes, bounds)?;
    let manifest = archive.read("META-INF/manifest.xml")?.unwrap_or_default();
    if manifest.windows(15).any(|window| window == b"encryption-data") {
        return Err(failure::encrypted());
    }
    let malformed = || failure::malformed("OpenDocument file");
    let content = archive.read("content.xml")?.ok_or_else(malformed)?;
    let content = Content::read(&content).ok_or_else(malformed)?;
    if content.too_large {
        return Err(failure::too_large("repeats its cells too often"));
    }
    if !content.pages.is_empty() {
        let pages = content.pages.into_iter().enumerate().map(|(index, page)| {
            let text = render(&page.html, output)?;
            Ok(Page { number: index + 1, title: page.title, text })
        });
        return Ok(Text::of_pages(pages.collect::<Result<_, JobError>>()?));
    }
    let styles = archive.read("styles.xml")?.unwrap_or_default();
    let styles = Content::read(&styles).unwrap_or_default();
    let html = [styles.header, content.html, styles.footer].concat();
    Ok(Text::whole(render(&html, output)?))
}

/// A sheet or slide.
struct Sheet {
    title: Option<String>,
    html: String,
}

/// What was read so far of `content.xml` or `styles.xml`.
#[derive(Default)]
struct Content {
    html: String,
    header: String,
    footer: String,
    pages: Vec<Sheet>,
    /// Depth inside an element whose text is not shown.
    hidden: usize,
    /// Whether tables are sheets here.
    spreadsheet: bool,
    /// For each open cell, where it begins and how often it is repeated.
    cells: Vec<(usize, usize)>,
    /// For each open heading, its level.
    headings: Vec<u32>,
    /// Repeated cells within repeated cells grew beyond the bound.
    too_large: bool,
}

impl Content {
    /// None if it is no XML.
    fn read(xml: &[u8]) -> Option<Self> {
        let xml = charset::decode(xml, Some("utf-8"));
        let mut reader = Reader::from_str(&xml);
        let mut content = Self::default();
        loop {
            match reader.read_event().ok()? {
                Event::Start(tag) => content.start(&tag),
                Event::Empty(tag) => {
                    content.start(&tag);
                    content.end(tag.name().as_ref());
                }
                Event::End(tag) => content.end(tag.name().as_ref()),
                Event::Text(text) => content.text(&text.xml10_content()),
                Event::CData(text) => content.text(&text.xml10_content()),
                // HTML knows all of XML's references.
                Event::GeneralRef(reference) if content.hidden == 0 => {
                    let _ = write!(content.html, "&{};", &*reference);
                }
                Event::Eof => return Some(content),
                _ => {}
            }
        }
    }

    fn text(&mut self, text: &str) {
        if self.hidden == 0 {
            self.html.push_str(&escape(text));
        }
    }

    fn start(&mut self, tag: &BytesStart) {
        let name = tag.name();
        let name = name.as_ref();
        if self.hidden > 0 || is_hidden(name) {
            self.hidden += 1;
            return;
        }
        match name {
            "office:spreadsheet" => self.spreadsheet = true,
            "text:h" => {
                let level = attribute(tag, "outline-level").and_then(|level| level.parse().ok());
                let level: u32 = level.unwrap_or(1).clamp(1, 6);
                self.headings.push(level);
                let _ = write!(self.html, "<h{level}>");
            }
            "text:a" => {
                let target = attribute(tag, "href").unwrap_or_default();
                let _ =
                    write!(self.html, "<a href=\"{}\">", escape(&target).replace('"', "&quot;"));
            }
            "text:s" => {
                let count = attribute(tag, "c").and_then(|count| count.parse().ok());
                self.html.push_str(&" ".repeat(count.unwrap_or(1).min(MAX_REPEAT)));
            }
            "table:table-cell" | "table:covered-table-cell" => {
                let count = attribute(tag, "number-columns-repeated");
                let count = count.and_then(|count| count.parse().ok()).unwrap_or(1);
                self.cells.push((self.html.len(), count));
            }
            "draw:page" | "table:table" if self.spreadsheet || name == "draw:page" => {
                self.pages.push(Sheet { title: attribute(tag, "name"), html: String::new() });
                self.html.clear();
                self.open(name);
            }
            "style:header" | "style:footer" => self.html.clear(),
            other => self.open(other),
        }
    }

    fn open(&mut self, name: &str) {
        if let Some(tag) = html_tag(name) {
            let _ = write!(self.html, "<{tag}>");
        }
    }

    fn end(&mut self, name: &str) {
        if self.hidden > 0 {
            self.hidden -= 1;
            return;
        }
        match name {
            "text:h" => {
                let level = self.headings.pop().unwrap_or(1);
                let _ = write!(self.html, "</h{level}>");
            }
            "text:a" => self.html.push_str("</a>"),
            "text:note-citation" => self.html.push_str("] "),
            "table:table-cell" | "table:covered-table-cell" => self.end_cell(),
            "style:header" => self.header.push_str(&std::mem::take(&mut self.html)),
            "style:footer" => self.footer.push_str(&std::mem::take(&mut self.html)),
            _ => {
                if let Some(tag) = html_tag(name).filter(|tag| *tag != "br") {
                    let _ = write!(self.html, "</{tag}>");
                }
                let sheet = name == "table:table" && self.spreadsheet && self.cells.is_empty();
                if (sheet || name == "draw:page")
                    && let Some(page) = self.pages.last_mut()
                {
                    page.html = std::mem::take(&mut self.html);
                }
            }
        }
    }

    /// Writes a cell as often as it is repeated. Of empty ones one is enough,
    /// unless others follow, which the row's end cannot know: a few are kept.
    fn end_cell(&mut self) {
        let Some((start, count)) = self.cells.pop() else { return };
        let cell = self.html.split_off(start);
        let most = if cell.trim().is_empty() && count > MAX_REPEAT { 1 } else { MAX_REPEAT };
        let count = count.clamp(1, most);
        self.too_large |= self.html.len() + count * cell.len() > MAX_MARKUP;
        if self.too_large {
            return;
        }
        for _ in 0..count {
            let _ = write!(self.html, "<td>{cell}</td>");
        }
    }
}

/// Text that no reader of the document sees.
fn is_hidden(name: &str) -> bool {
    matches!(
        name,
        "text:tracked-changes"
            | "office:scripts"
            | "office:font-face-decls"
            | "office:automatic-styles"
            | "office:settings"
            | "number:number-style"
            | "svg:title"
            | "presentation:settings"
            | "table:tracked-changes"
            | "text:sequence-decls"
            | "text:variable-decls"
            | "text:user-field-decls"
    )
}

/// The HTML element for an element of OpenDocument.
fn html_tag(name: &str) -> Option<&'static str> {
    Some(match name {
        "text:p" | "dc:creator" | "dc:date" => "p",
        "text:list" => "ul",
        "text:list-item" | "text:list-header" => "li",
        "table:table" => "table",
        "table:table-row" => "tr",
        "text:line-break" | "text:tab" => "br",
        "draw:frame" | "draw:text-box" | "text:note-body" | "office:annotation"
        | "presentation:notes" => "div",
        _ => return None,
    })
}

/// The value of the attribute of that local name.
fn attribute(tag: &BytesStart, name: &str) -> Option<String> {
    let mut attributes = tag.attributes().flatten();
    let found = attributes.find(|attribute| attribute.key.local_name().as_ref() == name)?;
    Some(found.normalized_value(XmlVersion::Implicit1_0).ok()?.into_owned())
}
