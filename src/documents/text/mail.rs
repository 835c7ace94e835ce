//! Mail (RFC 5322 and MIME), through mail-parser: the headers that a reader
//! sees, the body, and what is attached.

use std::fmt::Write as _;

use mail_parser::mailbox::mbox::MessageIterator;
use mail_parser::{
    Address, ContentType, Encoding, Message, MessageParser, MessagePart, MimeHeaders, PartType,
};

use super::bounds::Inside;
use super::{Options, Output, Text, charset, failure, html, nested, plain};
use crate::sandbox::JobError;

pub(super) fn extract(bytes: &[u8], output: Output, inside: Inside) -> Result<Text, JobError> {
    let message = MessageParser::default().parse(bytes);
    let message = message.ok_or_else(|| failure::malformed("message"))?;
    let kind = message.content_type().map(format_type).unwrap_or_default();
    if is_encrypted(&kind, "") {
        return Err(failure::encrypted());
    }
    Ok(Text::whole(render(&message, output, inside)?))
}

/// Whether a part of that media type and name holds an encrypted message:
/// PGP/MIME, S/MIME or Outlook's rights management.
pub(super) fn is_encrypted(mime_type: &str, name: &str) -> bool {
    let mime_type = mime_type.to_ascii_lowercase();
    mime_type == "multipart/encrypted"
        || mime_type == "application/pgp-encrypted"
        || mime_type.ends_with("pkcs7-mime")
        || name.eq_ignore_ascii_case("message.rpmsg")
}

fn format_type(kind: &ContentType) -> String {
    match kind.subtype() {
        Some(subtype) => format!("{}/{subtype}", kind.ctype()),
        None => kind.ctype().to_owned(),
    }
}

/// All messages of an mbox file.
pub(super) fn extract_mailbox(
    bytes: &[u8],
    output: Output,
    inside: Inside,
) -> Result<Text, JobError> {
    let mut texts = Vec::new();
    for message in MessageIterator::new(bytes) {
        let message = message.map_err(|_| failure::malformed("mailbox"))?;
        texts.push(extract(message.contents(), output, inside)?.text);
    }
    Ok(Text::whole(texts.join("\n\n---\n\n")))
}

fn render(message: &Message, output: Output, inside: Inside) -> Result<String, JobError> {
    let mut headers = Headers::new(output);
    headers.add("From", &addresses(message.from()));
    headers.add("To", &addresses(message.to()));
    headers.add("Cc", &addresses(message.cc()));
    headers.add("Bcc", &addresses(message.bcc()));
    headers.add("Reply-To", &addresses(message.reply_to()));
    headers.add("Date", &message.date().map(|date| date.to_rfc822()).unwrap_or_default());
    headers.add("Subject", message.subject().unwrap_or_default());
    let mut text = headers.text;
    for &id in &message.html_body {
        if let Some(part) = message.part(id) {
            text.push('\n');
            text.push_str(body(part, message.raw_message(), output)?.trim());
            text.push('\n');
        }
    }
    for part in message.attachments() {
        let name = part.attachment_name().unwrap_or_default();
        let content = match &part.body {
            PartType::Message(inner) => {
                let content = render(inner, output, inside.deeper()?)?;
                text.push_str(&attached("message", &content, output));
                continue;
            }
            PartType::Text(text) | PartType::Html(text) => text.as_bytes(),
            PartType::Binary(bytes) | PartType::InlineBinary(bytes) => bytes,
            PartType::Multipart(_) => continue,
        };
        let mime_type = part.content_type().map(format_type);
        text.push_str(&attachment(name, mime_type, content, output, inside)?);
    }
    Ok(text)
}

/// The text of a body part. mail-parser gives up on bytes of an encoding that
/// is not declared, so those are read again.
fn body(part: &MessagePart, raw: &[u8], output: Output) -> Result<String, JobError> {
    let decoded = part.text_contents().unwrap_or_default();
    let undeclared =
        decoded.contains(char::REPLACEMENT_CHARACTER) && matches!(part.encoding, Encoding::None);
    let again = part.offset_body as usize..part.offset_end as usize;
    let text = match raw.get(again).filter(|_| undeclared) {
        Some(bytes) => charset::decode(bytes, None),
        None => decoded.to_owned(),
    };
    match &part.body {
        PartType::Html(_) => html::render(&text, output),
        _ => Ok(plain::newlines(&text)),
    }
}

fn addresses(address: Option<&Address>) -> String {
    let list =
        address.into_iter().flat_map(Address::iter).map(|one| match (one.name(), one.address()) {
            (Some(name), Some(address)) => format!("{name} <{address}>"),
            (name, address) => name.or(address).unwrap_or_default().to_owned(),
        });
    list.collect::<Vec<_>>().join(", ")
}

/// The name of an attachment and, if it is a document that can be read, its
/// text.
///
/// # Errors
/// `document_too_large`, for all that is attached counts together.
pub(super) fn attachment(
    name: &str,
    mime_type: Option<String>,
    content: &[u8],
    output: Output,
    inside: Inside,
) -> Result<String, JobError> {
    let name_given = Some(name.to_owned());
    let options = Options { name: name_given, mime_type, output, ..Options::default() };
    let text = match nested(content, &options, inside.deeper()?) {
        Ok(text) => text.text,
        Err(error) if error.code == "document_too_large" => return Err(error),
        Err(_) => String::new(),
    };
    Ok(attached(name, &text, output))
}

/// An attachment's name above its text.
pub(super) fn attached(name: &str, text: &str, output: Output) -> String {
    match output {
        _ if name.is_empty() && text.is_empty() => String::new(),
        Output::Markdown => format!("\n**Attachment:** {name}\n\n{}\n", text.trim()),
        Output::Plain | Output::Layout => format!("\nAttachment: {name}\n\n{}\n", text.trim()),
    }
}

/// The headers that stand above a message's body.
pub(super) struct Headers {
    output: Output,
    /// What was added, one header a line.
    pub(super) text: String,
}

impl Headers {
    pub(super) fn new(output: Output) -> Self {
        Self { output, text: String::new() }
    }

    /// Adds a header, if it says anything.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        let value = value.trim();
        // Two spaces at the end keep Markdown's lines apart.
        let _ = match self.output {
            _ if value.is_empty() => Ok(()),
            Output::Markdown => writeln!(self.text, "**{name}:** {value}  "),
            Output::Plain | Output::Layout => writeln!(self.text, "{name}: {value}"),
        };
    }
}
