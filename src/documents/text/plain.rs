//! Text that is text already: plain, Markdown, CSV, JSON, XML.
//!
//! It is given as it is in either output, decoded to UTF-8 with `\n` line
//! ends: steps that read JSON or CSV need it whole.

use super::{Options, Text, charset, detect};
use crate::sandbox::JobError;

pub(super) fn extract(bytes: &[u8], options: &Options) -> Result<Text, JobError> {
    let head = bytes.get(..1024).unwrap_or(bytes);
    let declared = xml_encoding(head).or_else(|| detect::declared_charset(options));
    Ok(Text::whole(newlines(&charset::decode(bytes, declared.as_deref()))))
}

/// The text with `\n` at the end of each line.
pub(super) fn newlines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

/// The encoding that an XML declaration names.
fn xml_encoding(head: &[u8]) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    let declaration = head.trim_start().strip_prefix("<?xml")?.split("?>").next()?;
    let value = declaration.split_once("encoding")?.1.trim_start().strip_prefix('=')?;
    let quoted = value.trim_start();
    let quote = quoted.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    Some(quoted.get(1..)?.split(quote).next()?.to_owned())
}
