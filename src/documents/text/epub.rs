//! EPUB: the chapters in reading order, each an XHTML document.

use std::collections::HashMap;

use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};

use super::archive::Archive;
use super::{Output, Text, charset, failure, html};
use crate::sandbox::JobError;

pub(super) fn extract(bytes: &[u8], output: Output) -> Result<Text, JobError> {
    let malformed = || failure::malformed("EPUB");
    let mut archive = Archive::open(bytes)?;
    let container = archive.read("META-INF/container.xml")?.ok_or_else(malformed)?;
    let rootfile = elements(&container).into_iter().find(|element| element.name == "rootfile");
    let package = rootfile.and_then(|mut rootfile| rootfile.attributes.remove("full-path"));
    let package = package.ok_or_else(malformed)?;
    let folder = package.rsplit_once('/').map_or("", |(folder, _)| folder);
    let contents = archive.read(&package)?.ok_or_else(malformed)?;
    let encrypted = archive.read("META-INF/encryption.xml")?.unwrap_or_default();
    let encrypted = charset::decode(&encrypted, None);
    let mut chapters = Vec::new();
    for href in reading_order(&contents) {
        let path = resolve(folder, &href);
        if encrypted.contains(&format!("\"{path}\"")) {
            return Err(failure::encrypted());
        }
        if let Some(chapter) = archive.read(&path)? {
            let text = html::render(&charset::decode(&chapter, Some("utf-8")), output);
            chapters.push(text.trim().to_owned());
        }
    }
    chapters.retain(|chapter| !chapter.is_empty());
    Ok(Text::whole(chapters.join("\n\n")))
}

/// An element's local name and attributes.
struct Element {
    name: String,
    attributes: HashMap<String, String>,
}

/// All elements in document order, as far as the XML can be read.
fn elements(xml: &[u8]) -> Vec<Element> {
    let xml = charset::decode(xml, Some("utf-8"));
    let mut reader = Reader::from_str(&xml);
    let mut elements = Vec::new();
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag) | Event::Empty(tag)) => {
                let attributes = tag.attributes().flatten().map(|attribute| {
                    let name = attribute.key.local_name().as_ref().to_owned();
                    let value = attribute.normalized_value(XmlVersion::Implicit1_0);
                    (name, value.unwrap_or_default().into_owned())
                });
                let name = tag.local_name().as_ref().to_owned();
                elements.push(Element { name, attributes: attributes.collect() });
            }
            Ok(Event::Eof) | Err(_) => return elements,
            Ok(_) => {}
        }
    }
}

/// The files that the package's spine lists, relative to the package.
fn reading_order(package: &[u8]) -> Vec<String> {
    let mut files = HashMap::new();
    let mut spine = Vec::new();
    for Element { name, mut attributes } in elements(package) {
        match name.as_str() {
            "item" => {
                if let (Some(id), Some(href)) = (attributes.remove("id"), attributes.remove("href"))
                {
                    files.insert(id, href);
                }
            }
            "itemref" => spine.extend(attributes.remove("idref")),
            _ => {}
        }
    }
    spine.iter().filter_map(|id| files.get(id).cloned()).collect()
}

/// The path in the archive of a reference in a file of `folder`.
fn resolve(folder: &str, href: &str) -> String {
    let href = href.split('#').next().unwrap_or_default();
    let href = percent_encoding::percent_decode_str(href).decode_utf8_lossy().into_owned();
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in href.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
