//! PDF, through unpdf; where it finds nothing or says that it lost something,
//! pdf-extract is asked too, and for each page the fuller text is taken.

mod content;
mod layout;

use std::panic::catch_unwind;

use unpdf::parser::backend::{PdfBackend, RawBackend};
use unpdf::render::{RenderOptions, to_markdown, to_text};
use unpdf::{Document, Error, FormField, ParseOptions};

use super::{Output, Page, Text, failure};
use crate::sandbox::JobError;

pub(super) fn extract(bytes: &[u8], output: Output) -> Result<Text, JobError> {
    let parsed = unpdf::parse_bytes_with_options(bytes, ParseOptions::new().sequential());
    let (mut pages, lossy) = match parsed {
        Ok(mut document) => {
            let lossy = is_lossy(&document);
            (pages(&mut document, output), lossy)
        }
        Err(Error::Encrypted | Error::InvalidPassword) => return Err(failure::encrypted()),
        Err(_) => (Vec::new(), true),
    };
    if output == Output::Layout {
        lay_out(&mut pages, bytes);
    }
    if lossy || letters(&pages) == 0 {
        complete(&mut pages, second_reading(bytes));
    }
    match (pages.is_empty(), letters(&pages)) {
        (true, _) => Err(failure::malformed("PDF")),
        (false, 0) => Err(failure::no_text()),
        _ => Ok(Text::of_pages(pages)),
    }
}

/// Whether unpdf says that the document held text which it could not read.
fn is_lossy(document: &Document) -> bool {
    let quality = &document.extraction_quality;
    quality.pages_incomplete
        || quality.undecodable_content_streams > 0
        || quality.suppressed_text_runs > 0
        || document.pages.iter().any(|page| page.undecoded_text_codes > 0)
}

fn pages(document: &mut Document, output: Output) -> Vec<Page> {
    // unpdf would write all of the form after each page.
    let form = std::mem::take(&mut document.form_fields);
    let options = RenderOptions { escape_special_chars: false, ..RenderOptions::default() };
    let mut pages = Vec::new();
    // Rendering looks at every page it is given, so each is given alone.
    for page in std::mem::take(&mut document.pages) {
        let number = page.number as usize;
        document.pages = vec![page];
        let text = match output {
            Output::Markdown => to_markdown(document, &options),
            Output::Plain | Output::Layout => {
                to_text(document, &options.clone().with_standard_cleanup())
            }
        };
        pages.push(Page { number, title: None, text: text.unwrap_or_default() });
    }
    if let Some(last) = pages.last_mut() {
        last.text.push_str(&form_values(&form));
    }
    pages
}

/// Replaces each page by its layout, unless that misses text: it follows
/// neither patterns nor annotations.
fn lay_out(pages: &mut [Page], bytes: &[u8]) {
    let Ok(backend) = RawBackend::load_bytes(bytes) else { return };
    let ids = backend.pages();
    for page in pages {
        let id = u32::try_from(page.number).ok().and_then(|number| ids.get(&number));
        let text = id.map(|&id| layout::render(content::runs(&backend, id))).unwrap_or_default();
        if count(&text) * 10 >= count(&page.text) * 9 {
            page.text = text;
        }
    }
}

/// The values that were filled into the document's form.
fn form_values(form: &[FormField]) -> String {
    let filled = form.iter().filter(|field| field.value.is_some());
    let values = filled.map(|field| (&field.name, field.display_value()));
    let lines = values.filter(|(_, value)| !value.trim().is_empty());
    lines.map(|(name, value)| format!("\n{name}: {value}")).collect()
}

/// The pages as pdf-extract reads them; none if it fails, which it may do by
/// a panic.
fn second_reading(bytes: &[u8]) -> Vec<String> {
    let read = catch_unwind(|| pdf_extract::extract_text_from_mem_by_pages(bytes));
    read.ok().and_then(Result::ok).unwrap_or_default()
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
