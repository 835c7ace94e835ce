//! The text of documents: from bytes of any supported format to Markdown or
//! plain text.
//!
//! Everything here parses hostile input. It is called only inside a sandbox
//! worker, through [`ExtractText`]; but for the look at a document's head that
//! tells its media type, which parses nothing.

mod archive;
mod bounds;
mod charset;
pub(super) mod detect;
mod epub;
mod html;
mod mail;
mod msg;
mod odf;
mod office;
mod pdf;
mod plain;
mod rtf;
mod xml;

#[cfg(test)]
mod tests;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sandbox::{Job, JobError};
use bounds::{Bounds, Inside};
use detect::Format;
pub use detect::is_pdf;

/// How the text is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// Markdown: headings, lists, tables and links are kept.
    #[default]
    Markdown,
    /// Words and line breaks only; table cells are divided by tabs.
    Plain,
    /// As plain, but pages of a PDF keep their lines as printed, with spaces
    /// between columns: best for patterns over invoices and forms.
    Layout,
}

/// What is known of a document besides its bytes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Options {
    /// The name the caller gave; its extension breaks ties.
    pub name: Option<String>,
    /// The media type the caller declared; it breaks ties.
    pub mime_type: Option<String>,
    /// How the text is to be written.
    pub output: Output,
    /// Whether a PDF is read by the second reader alone, because the first
    /// one died of it.
    #[serde(default)]
    pub second_reader: bool,
}

/// The text of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// All of it.
    pub text: String,
    /// Pages of a PDF, slides of a presentation, sheets of a workbook; empty
    /// for formats without.
    pub pages: Vec<Page>,
    /// The media type that was detected from the content.
    pub mime_type: String,
}

/// A page, slide or sheet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Position in the document, from 1.
    pub number: usize,
    /// Name of the sheet or title of the slide, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its text.
    pub text: String,
}

impl Text {
    /// A text without pages.
    fn whole(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A text of pages; the whole is their texts in order.
    fn of_pages(pages: Vec<Page>) -> Self {
        let texts: Vec<_> = pages.iter().map(|page| page.text.trim_end()).collect();
        Self { text: texts.join("\n\n"), pages, mime_type: String::new() }
    }
}

/// The text of `bytes`.
///
/// An empty text document has an empty text; a PDF without any text is an
/// error, since its words are in its images.
///
/// # Errors
/// `unsupported_document`, `document_encrypted`, `document_malformed`,
/// `document_has_no_text` or `document_too_large`.
pub fn extract(bytes: &[u8], options: &Options) -> Result<Text, JobError> {
    nested(bytes, options, Inside::nothing(&Bounds::of(bytes)))
}

/// [`extract`] for what is found inside another document, such as an attached
/// message.
fn nested(bytes: &[u8], options: &Options, inside: Inside) -> Result<Text, JobError> {
    let format = detect::detect(bytes, options)?;
    let output = options.output;
    let text = match format {
        Format::Pdf => pdf::extract(bytes, output, options.second_reader),
        Format::Office(_) => office::extract(bytes, output, inside.bounds),
        Format::OpenDocument(_) => odf::extract(bytes, output, inside.bounds),
        Format::Epub => epub::extract(bytes, output, inside.bounds),
        Format::Rtf => rtf::extract(bytes, output),
        Format::OutlookMessage => msg::extract(bytes, output, inside),
        Format::Mail => mail::extract(bytes, output, inside),
        Format::Mailbox => mail::extract_mailbox(bytes, output, inside),
        Format::Html => html::extract(bytes, options),
        Format::Text(_) => plain::extract(bytes, options),
    }?;
    Ok(Text { mime_type: format.mime_type().to_owned(), ..text })
}

/// The job that a sandbox worker does with [`extract`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExtractText(pub Options);

impl Job for ExtractText {
    const NAME: &'static str = "extract_text";
    type Output = Text;

    fn perform(self, payload: Vec<u8>) -> Result<Text, JobError> {
        extract(&payload, &self.0)
    }
}

/// The failures of text extraction.
mod failure {
    use crate::sandbox::JobError;

    pub(super) fn unsupported(what: &str) -> JobError {
        let detail = format!("{what}; send a text, office, web, mail or PDF document");
        JobError::new("unsupported_document", detail)
    }

    pub(super) fn encrypted() -> JobError {
        let detail = "the document is encrypted or protected by a password; send it without";
        JobError::new("document_encrypted", detail)
    }

    pub(super) fn malformed(kind: &str) -> JobError {
        let detail = format!("the {kind} is damaged and cannot be read; save it anew");
        JobError::new("document_malformed", detail)
    }

    /// `what` follows "the document".
    pub(super) fn too_large(what: &str) -> JobError {
        JobError::new("document_too_large", format!("the document {what}; split it"))
    }

    pub(super) fn no_text() -> JobError {
        let detail = "the document holds only images and no text; run OCR on it first";
        JobError::new("document_has_no_text", detail)
    }
}
