//! PDF. Plain text and layouts are put together from the text operators of the
//! pages. Markdown, and what that reading cannot tell, comes from unpdf; where
//! it finds nothing or says that it lost something, pdf-extract is asked too,
//! and for each page the fuller text is taken.

mod content;
mod layout;
mod lines;
mod quick;
mod reading;
mod typeface;

use std::panic::{AssertUnwindSafe, catch_unwind};

use unpdf::render::{RenderOptions, to_markdown, to_text};
use unpdf::{Document, Error, FormField, ParseOptions};

use super::{Output, Page, Text, failure};
use crate::sandbox::JobError;

/// Reads it; by the second reader alone if the others died of it.
pub(super) fn extract(bytes: &[u8], output: Output, second_reader: bool) -> Result<Text, JobError> {
    let quick = || contained(|| quick::read(bytes, output)).flatten();
    let quick = if second_reader { None } else { quick() }.unwrap_or_default();
    if quick.is_whole {
        return Ok(Text::of_pages(quick.pages));
    }
    let first = || contained(|| first_reading(bytes, output));
    let mut reading = match if second_reader { None } else { first() } {
        Some(Ok(reading)) => reading,
        Some(Err(Error::Encrypted | Error::InvalidPassword)) => return Err(failure::encrypted()),
        Some(Err(_)) | None => Reading { lossy: true, ..Reading::default() },
    };
    let pages = &mut reading.pages;
    if output == Output::Layout {
        lay_out(pages, quick.pages);
    }
    if reading.lossy || letters(pages) == 0 {
        let second = contained(|| pdf_extract::extract_text_from_mem_by_pages(bytes));
        complete(pages, second.and_then(Result::ok).unwrap_or_default());
    }
    match pages.last_mut() {
        Some(last) => last.text.push_str(&reading.form),
        None => return Err(failure::malformed("PDF")),
    }
    match letters(pages) {
        0 => Err(failure::no_text()),
        _ => Ok(Text::of_pages(reading.pages)),
    }
}

/// What unpdf reads.
#[derive(Default)]
struct Reading {
    pages: Vec<Page>,
    /// The values that were filled into the document's form.
    form: String,
    /// Whether there was text that it could not read.
    lossy: bool,
}

fn first_reading(bytes: &[u8], output: Output) -> unpdf::Result<Reading> {
    let options = ParseOptions::new().sequential();
    let mut document = unpdf::parse_bytes_with_options(bytes, options)?;
    // unpdf would write all of the form after each page.
    let form = form_values(&std::mem::take(&mut document.form_fields));
    let lossy = is_lossy(&document);
    Ok(Reading { pages: pages(document, output), form, lossy })
}

/// Runs a parser; none if it panics, as some do on damaged files.
fn contained<T>(read: impl FnOnce() -> T) -> Option<T> {
    // What a parser leaves half-done is dropped with it.
    catch_unwind(AssertUnwindSafe(read)).ok()
}

/// Whether unpdf says that the document held text which it could not read.
fn is_lossy(document: &Document) -> bool {
    let quality = &document.extraction_quality;
    quality.pages_incomplete
        || quality.undecodable_content_streams > 0
        || quality.suppressed_text_runs > 0
        || document.pages.iter().any(|page| page.undecoded_text_codes > 0)
}

fn pages(mut document: Document, output: Output) -> Vec<Page> {
    let options = RenderOptions { escape_special_chars: false, ..RenderOptions::default() };
    let mut pages = Vec::new();
    // Rendering looks at every page it is given, so each is given alone.
    for page in std::mem::take(&mut document.pages) {
        let number = page.number as usize;
        document.pages = vec![page];
        let text = match output {
            Output::Markdown => to_markdown(&document, &options),
            Output::Plain | Output::Layout => {
                to_text(&document, &options.clone().with_standard_cleanup())
            }
        };
        pages.push(Page { number, title: None, text: text.unwrap_or_default() });
    }
    pages
}

fn form_values(form: &[FormField]) -> String {
    let filled = form.iter().filter(|field| field.value.is_some());
    let values = filled.map(|field| (&field.name, field.display_value()));
    let lines = values.filter(|(_, value)| !value.trim().is_empty());
    lines.map(|(name, value)| format!("\n{name}: {value}")).collect()
}

/// Replaces each page by its layout, unless that misses text: it follows
/// neither patterns nor annotations.
fn lay_out(pages: &mut [Page], layouts: Vec<Page>) {
    for (page, layout) in pages.iter_mut().zip(layouts) {
        if page.number == layout.number && count(&layout.text) * 10 >= count(&page.text) * 9 {
            page.text = layout.text;
        }
    }
}

/// Replaces each page by its second reading where that has clearly more
/// letters: its spacing is worse, so it is not preferred for less.
fn complete(pages: &mut Vec<Page>, second: Vec<String>) {
    for (index, text) in second.into_iter().enumerate() {
        let text = text.trim().to_owned();
        match pages.get_mut(index) {
            Some(page) if count(&text) * 10 > count(&page.text) * 11 => page.text = text,
            Some(_) => {}
            None => pages.push(Page { number: index + 1, title: None, text }),
        }
    }
}

fn letters(pages: &[Page]) -> usize {
    pages.iter().map(|page| count(&page.text)).sum()
}

/// Letters and digits: what both readings must agree on, however they space
/// words and mark headings.
fn count(text: &str) -> usize {
    text.chars().filter(|c| c.is_alphanumeric()).count()
}
