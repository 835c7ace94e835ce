//! Outlook messages (MS-OXMSG): properties and attachments as streams of a
//! compound file.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use cfb::CompoundFile;

use super::bounds::{Bounds, Inside};
use super::mail::{Headers, attached, attachment, is_encrypted};
use super::{Output, Text, charset, failure, html, plain, rtf};
use crate::sandbox::JobError;

/// Every stream of the file by its path.
type Streams = BTreeMap<PathBuf, Vec<u8>>;

// Property ids of MS-OXPROPS.
const SUBJECT: u16 = 0x0037;
const SENDER_NAME: u16 = 0x0c1a;
const SENDER_ADDRESS: u16 = 0x0c1f;
const SENDER_SMTP_ADDRESS: u16 = 0x5d01;
const DISPLAY_TO: u16 = 0x0e04;
const DISPLAY_CC: u16 = 0x0e03;
const SUBMIT_TIME: u16 = 0x0039;
const DELIVERY_TIME: u16 = 0x0e06;
const BODY: u16 = 0x1000;
const COMPRESSED_RTF: u16 = 0x1009;
const HTML_BODY: u16 = 0x1013;
const MESSAGE_CODEPAGE: u16 = 0x3ffd;
const INTERNET_CODEPAGE: u16 = 0x3fde;
const ATTACHMENT_DATA: u16 = 0x3701;
const ATTACHMENT_SHORT_NAME: u16 = 0x3704;
const ATTACHMENT_NAME: u16 = 0x3707;
const ATTACHMENT_MIME_TYPE: u16 = 0x370e;

/// Stream of the properties that fit into 8 bytes.
const PROPERTIES: &str = "__properties_version1.0";

// Property types.
const BINARY: u16 = 0x0102;
const STRING8: u16 = 0x001e;
const UNICODE: u16 = 0x001f;
const OBJECT: u16 = 0x000d;

pub(super) fn extract(bytes: &[u8], output: Output, inside: Inside) -> Result<Text, JobError> {
    let streams = streams(bytes, inside.bounds)?;
    let message = Storage { streams: &streams, at: PathBuf::from("/"), codepage: 1252 };
    if message.is_encrypted() {
        return Err(failure::encrypted());
    }
    Ok(Text::whole(message.render(output, inside)?))
}

fn streams(bytes: &[u8], bounds: &Bounds) -> Result<Streams, JobError> {
    let malformed = || failure::malformed("Outlook message");
    let mut file = CompoundFile::open(Cursor::new(bytes)).map_err(|_| malformed())?;
    let entries = file.walk().filter(cfb::Entry::is_stream);
    let paths: Vec<_> = entries.map(|entry| entry.path().to_owned()).collect();
    bounds.add_parts(paths.len())?;
    let mut streams = Streams::new();
    for path in paths {
        let stream = file.open_stream(&path).map_err(|_| malformed())?;
        // Nothing is packed, but streams may share their sectors.
        let content = bounds.read(stream)?.ok_or_else(malformed)?;
        streams.insert(path, content);
    }
    Ok(streams)
}

/// A message or an attachment inside the file.
struct Storage<'a> {
    streams: &'a Streams,
    at: PathBuf,
    /// Of the 8-bit strings below.
    codepage: u32,
}

impl<'a> Storage<'a> {
    fn render(mut self, output: Output, inside: Inside) -> Result<String, JobError> {
        let fixed = self.fixed_properties();
        let message = fixed.get(&MESSAGE_CODEPAGE).and_then(|&page| u32::try_from(page).ok());
        let internet = fixed.get(&INTERNET_CODEPAGE).and_then(|&page| u32::try_from(page).ok());
        self.codepage = message.or(internet).unwrap_or(self.codepage);
        let mut headers = Headers::new(output);
        headers.add("From", &self.sender());
        headers.add("To", &self.string(DISPLAY_TO).unwrap_or_default());
        headers.add("Cc", &self.string(DISPLAY_CC).unwrap_or_default());
        let sent = fixed.get(&SUBMIT_TIME).or_else(|| fixed.get(&DELIVERY_TIME));
        headers.add("Date", &sent.and_then(|&time| date(time)).unwrap_or_default());
        headers.add("Subject", &self.string(SUBJECT).unwrap_or_default());
        let body = self.body(output, internet)?;
        let mut text = format!("{}\n{}\n", headers.text, body.trim());
        for attached in self.attachments() {
            text.push_str(&self.inside(attached).render_attachment(output, inside)?);
        }
        Ok(text)
    }

    /// Whether the body is in an attachment that only its reader can open.
    fn is_encrypted(&self) -> bool {
        self.attachments().into_iter().map(|at| self.inside(at)).any(|attachment| {
            let mime_type = attachment.string(ATTACHMENT_MIME_TYPE).unwrap_or_default();
            is_encrypted(&mime_type, &attachment.name())
        })
    }

    /// The file name, where this is an attachment.
    fn name(&self) -> String {
        let name = self.string(ATTACHMENT_NAME).or_else(|| self.string(ATTACHMENT_SHORT_NAME));
        name.unwrap_or_default()
    }

    fn inside(&self, at: PathBuf) -> Storage<'a> {
        Storage { streams: self.streams, at, codepage: self.codepage }
    }

    fn render_attachment(&self, output: Output, inside: Inside) -> Result<String, JobError> {
        let name = self.name();
        let message = self.at.join(stream(ATTACHMENT_DATA, OBJECT));
        if self.streams.contains_key(&message.join(PROPERTIES)) {
            let text = self.inside(message).render(output, inside.deeper()?)?;
            return Ok(attached(&name, &text, output));
        }
        let content = self.read(&stream(ATTACHMENT_DATA, BINARY)).unwrap_or_default();
        let mime_type = self.string(ATTACHMENT_MIME_TYPE);
        attachment(&name, mime_type, content, output, inside)
    }

    fn sender(&self) -> String {
        let name = self.string(SENDER_NAME).unwrap_or_default();
        let address = self.string(SENDER_SMTP_ADDRESS).or_else(|| self.string(SENDER_ADDRESS));
        // An address inside the organisation is a directory path, for no reader.
        match address.filter(|address| address.contains('@') && *address != name) {
            Some(address) => format!("{name} <{address}>"),
            None => name,
        }
    }

    /// The richest body there is.
    fn body(&self, output: Output, html_codepage: Option<u32>) -> Result<String, JobError> {
        if let Some(bytes) = self.read(&stream(HTML_BODY, BINARY)) {
            let declared = html_codepage.map(|page| charset::codepage_encoding(page).name());
            return html::render(&charset::decode(bytes, declared), output);
        }
        if let Some(text) = self.string(HTML_BODY) {
            return html::render(&text, output);
        }
        if let Some(text) = self.string(BODY).filter(|text| !text.trim().is_empty()) {
            return Ok(plain::newlines(&text));
        }
        let packed = self.read(&stream(COMPRESSED_RTF, BINARY));
        // The crate takes a whole header and honest lengths for granted.
        let unpacked = packed
            .and_then(|packed| catch_unwind(|| compressed_rtf::decompress_rtf(packed)).ok()?.ok());
        unpacked.map_or_else(|| Ok(String::new()), |text| rtf::render(text.as_bytes(), output))
    }

    /// Folders of the attachments, in their order.
    fn attachments(&self) -> BTreeSet<PathBuf> {
        let below = self.streams.keys().filter_map(|path| path.strip_prefix(&self.at).ok());
        let first = below.filter_map(|path| path.iter().next());
        let folders = first.filter(|name| name.to_string_lossy().starts_with("__attach_version"));
        folders.map(|name| self.at.join(name)).collect()
    }

    fn string(&self, id: u16) -> Option<String> {
        if let Some(bytes) = self.read(&stream(id, UNICODE)) {
            let (text, _) = encoding_rs::UTF_16LE.decode_without_bom_handling(bytes);
            return Some(text.trim_end_matches('\0').to_owned());
        }
        let bytes = self.read(&stream(id, STRING8))?;
        Some(charset::decode_codepage(bytes, self.codepage).trim_end_matches('\0').to_owned())
    }

    fn read(&self, name: &str) -> Option<&'a [u8]> {
        self.streams.get(&self.at.join(name)).map(Vec::as_slice)
    }

    /// Ids and values of the properties that fit into 8 bytes.
    fn fixed_properties(&self) -> BTreeMap<u16, u64> {
        // The stream's own header has 32 bytes in the outermost message and 24
        // in one that is attached.
        let header = if self.at == Path::new("/") { 32 } else { 24 };
        let records = self.read(PROPERTIES).and_then(|bytes| bytes.get(header..));
        let (records, _) = records.unwrap_or_default().as_chunks::<16>();
        let records = records.iter().map(|record| {
            let [_, _, id0, id1, _, _, _, _, value @ ..] = *record;
            (u16::from_le_bytes([id0, id1]), u64::from_le_bytes(value))
        });
        records.collect()
    }
}

/// Name of the stream that holds a property.
fn stream(id: u16, kind: u16) -> String {
    format!("__substg1.0_{id:04X}{kind:04X}")
}

/// A FILETIME (100 ns since 1601) as mail writes it.
fn date(filetime: u64) -> Option<String> {
    const SECONDS_FROM_1601_TO_1970: i64 = 11_644_473_600;
    let seconds = i64::try_from(filetime / 10_000_000).ok()? - SECONDS_FROM_1601_TO_1970;
    Some(chrono::DateTime::from_timestamp(seconds, 0)?.to_rfc2822())
}
