//! The text of pages from their text operators alone: many times as fast as a
//! full reading, and whole where a document says what its characters are and
//! keeps its text in its pages.

use hayro_syntax::Pdf;
use hayro_syntax::object::dict::keys::{ANNOTS, SUBTYPE};
use hayro_syntax::object::{Array, Dict, Name};
use hayro_syntax::page::Page as PdfPage;

use super::super::{Output, Page};
use super::content::{Shown, shown};
use super::typeface::Typefaces;
use super::{layout, letters, reading};

/// Least characters of a page by which it can be judged.
const FEW: usize = 50;

/// What was read.
#[derive(Default)]
pub(super) struct Quick {
    pub(super) pages: Vec<Page>,
    /// Whether a full reading would find no more.
    pub(super) is_whole: bool,
}

/// Reads pages; none if this is not how their text is wanted, or the document
/// cannot be read.
pub(super) fn read(bytes: &[u8], output: Output) -> Option<Quick> {
    let render = match output {
        Output::Plain => reading::render,
        Output::Layout => layout::render,
        Output::Markdown => return None,
    };
    let pdf = Pdf::new(bytes.to_vec()).ok()?;
    let mut typefaces = Typefaces::new();
    let (mut read, mut unread, mut is_whole) = (0, 0, !has_form(&pdf));
    let mut pages = Vec::new();
    for (index, page) in pdf.pages().iter().enumerate() {
        let shown = shown(page, &mut typefaces);
        is_whole &= !is_garbled(&shown) && !has_notes(page);
        (read, unread) = (read + shown.read, unread + shown.unread);
        pages.push(Page { number: index + 1, title: None, text: render(shown.runs) });
    }
    is_whole &= unread * 20 <= read && letters(&pages) > 0;
    Some(Quick { pages, is_whole })
}

/// Whether most of a page is in fonts that do not tell what they write.
fn is_garbled(shown: &Shown) -> bool {
    shown.unread >= FEW && shown.unread > shown.read
}

/// Whether a form may have been filled in: its values stand beside the pages.
fn has_form(pdf: &Pdf) -> bool {
    let catalog = pdf.xref().get::<Dict<'_>>(pdf.xref().root_id());
    let form = catalog.and_then(|catalog| catalog.get::<Dict<'_>>("AcroForm"));
    let fields = form.and_then(|form| form.get::<Array<'_>>("Fields"));
    fields.is_some_and(|fields| fields.raw_iter().next().is_some())
}

/// Whether text was written onto a page as a comment or a stamp.
fn has_notes(page: &PdfPage<'_>) -> bool {
    let notes = page.raw().get::<Array<'_>>(ANNOTS);
    notes.is_some_and(|notes| {
        notes.iter::<Dict<'_>>().any(|note| {
            let kind = note.get::<Name<'_>>(SUBTYPE);
            kind.is_some_and(|kind| matches!(kind.as_ref(), b"FreeText" | b"Stamp"))
        })
    })
}
