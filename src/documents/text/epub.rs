//! EPUB: the chapters in reading order, each an XHTML document.

use std::collections::HashMap;

use super::archive::Archive;
use super::bounds::Bounds;
use super::xml::{elements, resolve};
use super::{Output, Text, charset, failure, html};
use crate::sandbox::JobError;

pub(super) fn extract(bytes: &[u8], output: Output, bounds: &Bounds) -> Result<Text, JobError> {
    let malformed = || failure::malformed("EPUB");
    let mut archive = Archive::open(bytes, bounds)?;
    let container = archive.read("META-INF/container.xml")?.ok_or_else(malformed)?;
    let rootfile = elements(&container).into_iter().find(|element| element.name == "rootfile");
    let package = rootfile.and_then(|mut rootfile| rootfile.take("full-path"));
    let package = package.ok_or_else(malformed)?;
    let folder = package.rsplit_once('/').map_or("", |(folder, _)| folder);
    let contents = archive.read(&package)?.ok_or_else(malformed)?;
    let encrypted = archive.read("META-INF/encryption.xml")?.unwrap_or_default();
    let encrypted = charset::decode(&encrypted, None);
    let mut chapters = Vec::new();
    for href in reading_order(&contents) {
        let href = href.split('#').next().unwrap_or_default();
        let href = percent_encoding::percent_decode_str(href).decode_utf8_lossy();
        let path = resolve(folder, &href);
        if encrypted.contains(&format!("\"{path}\"")) {
            return Err(failure::encrypted());
        }
        if let Some(chapter) = archive.read(&path)? {
            let text = html::render(&charset::decode(&chapter, Some("utf-8")), output)?;
            chapters.push(text.trim().to_owned());
        }
    }
    chapters.retain(|chapter| !chapter.is_empty());
    Ok(Text::whole(chapters.join("\n\n")))
}

/// The files that the package's spine lists, relative to the package.
fn reading_order(package: &[u8]) -> Vec<String> {
    let mut files = HashMap::new();
    let mut spine = Vec::new();
    for mut element in elements(package) {
        match element.name.as_str() {
            "item" => {
                if let (Some(id), Some(href)) = (element.take("id"), element.take("href")) {
                    files.insert(id, href);
                }
            }
            "itemref" => spine.extend(element.take("idref")),
            _ => {}
        }
    }
    spine.iter().filter_map(|id| files.get(id).cloned()).collect()
}
