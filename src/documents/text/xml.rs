//! The elements of small XML files, such as the lists of a package's parts.

use std::collections::HashMap;

use quick_xml::events::Event;
use quick_xml::{Reader, XmlVersion};

use super::charset;

/// An element's local name and its attributes by local name.
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: HashMap<String, String>,
}

impl Element {
    /// Takes an attribute's value out.
    pub(super) fn take(&mut self, attribute: &str) -> Option<String> {
        self.attributes.remove(attribute)
    }
}

/// All elements in document order, as far as the XML can be read.
pub(super) fn elements(xml: &[u8]) -> Vec<Element> {
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

/// The path in a package of `href`, a reference in a file of `folder`.
pub(super) fn resolve(folder: &str, href: &str) -> String {
    let folder = if href.starts_with('/') { "" } else { folder };
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
