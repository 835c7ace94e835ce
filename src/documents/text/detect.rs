//! What a document is: by its content first. Its name and declared type only
//! decide between texts that look alike, such as Markdown and plain text.

use std::io::Cursor;

use encoding_rs::Encoding;
use infer::MatcherType;
use undoc::FormatType;

use super::archive::Archive;
use super::bounds::Bounds;
use super::{Options, charset, failure};
use crate::sandbox::JobError;

/// How much of a text is looked at.
const HEAD: usize = 8192;

/// A kind of document that text can be taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::documents) enum Format {
    Pdf,
    /// Microsoft Office, by XML or binary.
    Office(FormatType),
    /// OpenDocument, with its media type.
    OpenDocument(&'static str),
    Epub,
    Rtf,
    OutlookMessage,
    Mail,
    Mailbox,
    Html,
    /// Text as it is, with its media type.
    Text(&'static str),
}

impl Format {
    /// The media type as registered with IANA, or as commonly used.
    pub(in crate::documents) fn mime_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Office(FormatType::Docx) => {
                "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
            }
            Self::Office(FormatType::Xlsx) => {
                "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
            }
            Self::Office(FormatType::Pptx) => {
                "application/vnd.openxmlformats-officedocument.presentationml.presentation"
            }
            Self::Office(FormatType::Doc) => "application/msword",
            Self::Office(FormatType::Xls) => "application/vnd.ms-excel",
            Self::Office(FormatType::Ppt) => "application/vnd.ms-powerpoint",
            Self::OpenDocument(mime_type) | Self::Text(mime_type) => mime_type,
            Self::Epub => "application/epub+zip",
            Self::Rtf => "application/rtf",
            Self::OutlookMessage => "application/vnd.ms-outlook",
            Self::Mail => "message/rfc822",
            Self::Mailbox => "application/mbox",
            Self::Html => "text/html",
        }
    }
}

/// The format of `bytes`.
///
/// # Errors
/// `unsupported_document` if it is none of ours, `document_encrypted` if only
/// the wrapping around the document can be seen, `document_malformed` if the
/// container that holds it is broken.
pub(in crate::documents) fn detect(bytes: &[u8], options: &Options) -> Result<Format, JobError> {
    match wrapping(bytes) {
        Some(Wrapping::Pdf) => Ok(Format::Pdf),
        Some(Wrapping::Zip) => in_zip(bytes),
        Some(Wrapping::CompoundFile) => in_compound_file(bytes),
        Some(Wrapping::Rtf) => Ok(Format::Rtf),
        None => match undoc::detect_format_from_bytes(bytes) {
            Ok(format) => Ok(Format::Office(format)),
            Err(_) => in_text(bytes, true, options),
        },
    }
}

/// What the first bytes of a document tell.
pub(in crate::documents) enum Told {
    /// Its media type.
    Type(&'static str),
    /// It is a ZIP archive: what it holds decides.
    Zip,
    /// It is a compound file: what it holds decides.
    CompoundFile,
}

/// What `head` tells of a document without parsing it; `whole` says whether
/// it is all there is. It agrees with [`detect`], and knows the types of some
/// documents that text cannot be taken from.
pub(in crate::documents) fn by_head(head: &[u8], whole: bool, options: &Options) -> Told {
    match wrapping(head) {
        Some(Wrapping::Pdf) => Told::Type(Format::Pdf.mime_type()),
        Some(Wrapping::Zip) => Told::Zip,
        Some(Wrapping::CompoundFile) => Told::CompoundFile,
        Some(Wrapping::Rtf) => Told::Type(Format::Rtf.mime_type()),
        None => {
            let known = undoc::detect_format_from_bytes(head).map(Format::Office);
            let known = known.or_else(|_| in_text(head, whole, options));
            let foreign = || foreign(head).map_or(UNKNOWN, |kind| kind.mime_type());
            Told::Type(known.map_or_else(|_| foreign(), Format::mime_type))
        }
    }
}

/// Media type of bytes of which nothing is known (RFC 2046 section 4.5.1).
const UNKNOWN: &str = "application/octet-stream";

enum Wrapping {
    Pdf,
    Zip,
    CompoundFile,
    Rtf,
}

/// Whether `bytes` are a PDF, by their head.
pub fn is_pdf(bytes: &[u8]) -> bool {
    matches!(wrapping(bytes), Some(Wrapping::Pdf))
}

fn wrapping(bytes: &[u8]) -> Option<Wrapping> {
    let head = bytes.get(..HEAD).unwrap_or(bytes);
    let body = head.trim_ascii_start();
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if head.windows(5).take(1024).any(|five| five == b"%PDF-") {
        Some(Wrapping::Pdf)
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        Some(Wrapping::Zip)
    } else if head.starts_with(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") {
        Some(Wrapping::CompoundFile)
    } else {
        body.starts_with(b"{\\rtf").then_some(Wrapping::Rtf)
    }
}

/// The lower-case extension of the document's name.
fn extension(options: &Options) -> String {
    let name = options.name.as_deref().unwrap_or_default();
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// The declared media type in lower case, without its parameters.
fn declared_type(options: &Options) -> String {
    let declared = options.mime_type.as_deref().unwrap_or_default();
    declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// The charset parameter of the declared media type.
pub(super) fn declared_charset(options: &Options) -> Option<String> {
    let mut parameters = options.mime_type.as_deref()?.split(';').skip(1);
    let charset = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })?;
    Some(charset.trim().trim_matches('"').to_owned())
}

fn in_zip(bytes: &[u8]) -> Result<Format, JobError> {
    // Its own bounds: whoever reads the document counts from nothing.
    let bounds = Bounds::of(bytes);
    let mut archive = Archive::open(bytes, &bounds)?;
    if archive.has("META-INF/container.xml") && !archive.has_folder("word/") {
        return Ok(Format::Epub);
    }
    let declared = archive.read("mimetype")?.unwrap_or_default();
    let declared = String::from_utf8_lossy(&declared).trim().to_owned();
    if let Some(mime_type) = OPEN_DOCUMENT.iter().find(|known| declared.starts_with(**known)) {
        return Ok(Format::OpenDocument(mime_type));
    }
    if declared == "application/epub+zip" {
        return Ok(Format::Epub);
    }
    if archive.has("content.xml") && archive.has("META-INF/manifest.xml") {
        return Ok(Format::OpenDocument("application/vnd.oasis.opendocument.text"));
    }
    if !archive.has("[Content_Types].xml") && !archive.has_folder("_rels/") {
        return Err(failure::unsupported("a ZIP archive is not a document"));
    }
    match undoc::detect_format_from_bytes(bytes) {
        Ok(format) => Ok(Format::Office(format)),
        Err(undoc::Error::Encrypted) => Err(failure::encrypted()),
        Err(undoc::Error::UnknownFormat | undoc::Error::UnsupportedFormat(_)) => {
            Err(failure::unsupported("this kind of package is not a document"))
        }
        Err(_) => Err(failure::malformed("office document")),
    }
}

pub(in crate::documents) const OPEN_DOCUMENT: [&str; 4] = [
    "application/vnd.oasis.opendocument.text",
    "application/vnd.oasis.opendocument.spreadsheet",
    "application/vnd.oasis.opendocument.presentation",
    "application/vnd.oasis.opendocument.graphics",
];

fn in_compound_file(bytes: &[u8]) -> Result<Format, JobError> {
    let file = cfb::CompoundFile::open(Cursor::new(bytes))
        .map_err(|_| failure::malformed("compound file"))?;
    if file.exists("/__properties_version1.0") {
        return Ok(Format::OutlookMessage);
    }
    match undoc::detect_format_from_bytes(bytes) {
        Ok(format) => Ok(Format::Office(format)),
        Err(undoc::Error::Encrypted) => Err(failure::encrypted()),
        Err(_) => Err(failure::unsupported("this compound file is not a document")),
    }
}

/// `whole` says whether `bytes` are all there is.
fn in_text(bytes: &[u8], whole: bool, options: &Options) -> Result<Format, JobError> {
    let declared = declared_type(options);
    let extension = extension(options);
    if bytes.trim_ascii().is_empty() {
        return empty(&declared, &extension);
    }
    if let Some(kind) = foreign(bytes) {
        let what = match kind.matcher_type() {
            MatcherType::Image => "an image has no text; run OCR on it first".to_owned(),
            _ => format!("text cannot be taken from {}", kind.mime_type()),
        };
        return Err(failure::unsupported(&what));
    }
    let sample = sample(bytes);
    if is_binary(&sample) {
        return Err(failure::unsupported("the content is of no known format"));
    }
    let start = sample.trim_start_matches('\u{feff}').trim_start();
    Ok(if start.starts_with("From ") && mail_headers(start) > 1 {
        Format::Mailbox
    } else if is_mail(start, &declared, &extension) {
        Format::Mail
    } else if is_html(start, &declared, &extension) {
        Format::Html
    } else {
        Format::Text(text_type(bytes, whole, start, &declared, &extension))
    })
}

/// The kind of content that is no document with text, if it is a known one.
fn foreign(bytes: &[u8]) -> Option<infer::Type> {
    use MatcherType::{App, Archive, Audio, Book, Doc, Font, Image, Video};
    if Encoding::for_bom(bytes).is_some() {
        return None;
    }
    let kind = infer::get(bytes)?;
    match kind.matcher_type() {
        Image | Archive | Audio | Video | Font | Book | Doc => Some(kind),
        // Some programs are known by two letters, with which a text may begin.
        App if is_binary(&sample(bytes)) => Some(kind),
        _ => None,
    }
}

fn sample(bytes: &[u8]) -> String {
    charset::decode(bytes.get(..HEAD).unwrap_or(bytes), None)
}

/// An empty file is an empty text, unless it says that it should be more.
fn empty(declared: &str, extension: &str) -> Result<Format, JobError> {
    const NEVER_EMPTY: [&str; 12] =
        ["pdf", "docx", "xlsx", "pptx", "doc", "xls", "ppt", "odt", "ods", "odp", "msg", "epub"];
    if NEVER_EMPTY.contains(&extension)
        || (declared.starts_with("application/") && text_types(declared).is_none())
            && declared != "application/octet-stream"
    {
        return Err(failure::malformed("document is empty, or"));
    }
    Ok(Format::Text(by_name(declared, extension).unwrap_or("text/plain")))
}

/// Whether a decoded sample is no text: it has control characters that no text
/// file has. Undecodable bytes prove nothing, as mail mixes encodings.
fn is_binary(sample: &str) -> bool {
    let odd = |c: &char| matches!(c, '\0'..='\x08' | '\x0e'..='\x1a' | '\x1c'..='\x1f');
    sample.chars().filter(odd).count() * 50 > sample.chars().count()
}

/// The number of well-known mail headers that the text begins with.
fn mail_headers(start: &str) -> usize {
    const KNOWN: [&str; 18] = [
        "from",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "mime-version",
        "received",
        "return-path",
        "delivered-to",
        "content-type",
        "reply-to",
        "sender",
        "x-mailer",
        "content-transfer-encoding",
        "x-gmail-labels",
        "dkim-signature",
    ];
    let lines = start.lines().skip(usize::from(start.starts_with("From ")));
    let headers = lines.take_while(|line| !line.trim().is_empty());
    // A folded header goes on with white space.
    let headers = headers.filter(|line| !line.starts_with([' ', '\t']));
    let names = headers.map_while(|line| {
        let (name, _) = line.split_once(':')?;
        (!name.is_empty() && !name.contains(' ')).then(|| name.to_ascii_lowercase())
    });
    names.filter(|name| KNOWN.contains(&name.as_str())).count()
}

fn is_mail(start: &str, declared: &str, extension: &str) -> bool {
    let said = matches!(extension, "eml" | "mht" | "mhtml" | "emlx")
        || matches!(declared, "message/rfc822" | "multipart/related");
    match mail_headers(start) {
        0 => false,
        1..=2 => said,
        _ => true,
    }
}

fn is_html(start: &str, declared: &str, extension: &str) -> bool {
    const MARKS: [&str; 10] =
        ["<html", "<head", "<body", "<table", "<div", "<p>", "<br", "<h1", "<span", "<meta"];
    if !start.starts_with('<') {
        return matches!(extension, "html" | "htm" | "xhtml") && start.contains('<');
    }
    let lower = start.to_ascii_lowercase();
    let said = matches!(extension, "html" | "htm" | "xhtml" | "shtml")
        || matches!(declared, "text/html" | "application/xhtml+xml");
    if lower.starts_with("<?xml") {
        return lower.contains("<html") || lower.contains("<!doctype html");
    }
    said || lower.starts_with("<!doctype html")
        || MARKS.iter().any(|mark| lower.starts_with(mark))
        || (lower.starts_with("<!--") && MARKS.iter().any(|mark| lower.contains(mark)))
}

fn text_type(
    bytes: &[u8],
    whole: bool,
    start: &str,
    declared: &str,
    extension: &str,
) -> &'static str {
    if start.starts_with("<?xml") {
        return "application/xml";
    }
    if start.starts_with(['{', '[']) && extension != "md" {
        let text = charset::decode(bytes, None);
        let mut values = serde_json::Deserializer::from_str(&text).into_iter();
        let mut cut_off = false;
        let good = values.by_ref().take_while(|v: &serde_json::Result<serde::de::IgnoredAny>| {
            cut_off = v.as_ref().is_err_and(|error| !whole && error.is_eof());
            v.is_ok()
        });
        match (good.count(), cut_off || values.byte_offset() >= text.trim_end().len()) {
            (0, true) if cut_off => return "application/json",
            (1, true) if !cut_off => return "application/json",
            (1.., true) => return "application/x-ndjson",
            _ => {}
        }
    }
    by_name(declared, extension).unwrap_or("text/plain")
}

fn by_name(declared: &str, extension: &str) -> Option<&'static str> {
    let by_extension = match extension {
        "csv" => Some("text/csv"),
        "tsv" | "tab" => Some("text/tab-separated-values"),
        "md" | "markdown" => Some("text/markdown"),
        "xml" | "xsd" | "xsl" | "xslt" | "rss" => Some("application/xml"),
        "json" => Some("application/json"),
        "ndjson" | "jsonl" => Some("application/x-ndjson"),
        "htm" | "html" => Some("text/html"),
        "eml" => Some("message/rfc822"),
        _ => None,
    };
    by_extension.or_else(|| text_types(declared))
}

fn text_types(declared: &str) -> Option<&'static str> {
    match declared {
        "text/csv" | "application/csv" => Some("text/csv"),
        "text/tab-separated-values" => Some("text/tab-separated-values"),
        "text/markdown" | "text/x-markdown" => Some("text/markdown"),
        "application/xml" | "text/xml" => Some("application/xml"),
        "application/json" | "text/json" => Some("application/json"),
        "application/x-ndjson" | "application/jsonl" => Some("application/x-ndjson"),
        _ => None,
    }
}
