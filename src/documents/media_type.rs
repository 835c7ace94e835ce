//! The media type of a stored document, told from its content.

use super::container::{Pieces, compound_names, declared_type, zip_names};
use super::store::{DocumentStore, StoreError, Stored};
use super::text::Options;
use super::text::detect::{OPEN_DOCUMENT, Told, by_head};

/// Bytes of a document that are looked at first.
const HEAD: u64 = 64 * 1024;

const EPUB: &str = "application/epub+zip";

/// The media type of a stored document: by its content, of which only pieces
/// are read, however large it is. Name and declared type decide only between
/// texts that look alike. What is not known is `application/octet-stream`,
/// `application/zip` or `application/x-ole-storage`.
///
/// # Errors
/// The store's.
pub async fn of(
    store: &DocumentStore,
    stored: Stored,
    options: Options,
) -> Result<&'static str, StoreError> {
    let pieces = Pieces { store, stored };
    let head = pieces.read(0, HEAD).await?;
    let (bytes, whole) = (head.clone(), head.len() as u64 == stored.size);
    let told = tokio::task::spawn_blocking(move || by_head(&bytes, whole, &options)).await;
    Ok(match told {
        Ok(Told::Type(media_type)) => media_type,
        Ok(Told::Zip) => in_zip(declared_type(&head), &zip_names(&pieces).await?),
        Ok(Told::CompoundFile) => in_compound_file(&compound_names(&head, &pieces).await?),
        // Code that looks at hostile bytes failed on them.
        Err(_) => "application/octet-stream",
    })
}

fn in_zip(declared: Option<&str>, names: &[String]) -> &'static str {
    let has = |name: &str| names.iter().any(|known| known == name);
    let has_folder = |folder: &str| names.iter().any(|known| known.starts_with(folder));
    let declared = declared.unwrap_or_default().trim();
    if declared == EPUB || has("META-INF/container.xml") && !has_folder("word/") {
        return EPUB;
    }
    // A template counts as what it is a template of.
    if let Some(media_type) = OPEN_DOCUMENT.iter().find(|known| declared.starts_with(**known)) {
        return media_type;
    }
    if has("content.xml") && has("META-INF/manifest.xml") {
        return "application/vnd.oasis.opendocument.text";
    }
    let is_package = has("[Content_Types].xml") || has_folder("_rels/");
    let office = OFFICE.iter().find(|(folder, ..)| is_package && has_folder(folder));
    match office {
        Some((folder, plain, with_macros)) => {
            if has(&format!("{folder}vbaProject.bin")) {
                with_macros
            } else {
                plain
            }
        }
        None => "application/zip",
    }
}

/// Folders of Office packages, with their type without and with macros.
const OFFICE: [(&str, &str, &str); 3] = [
    (
        "word/",
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.ms-word.document.macroEnabled.12",
    ),
    (
        "xl/",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.ms-excel.sheet.macroEnabled.12",
    ),
    (
        "ppt/",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "application/vnd.ms-powerpoint.presentation.macroEnabled.12",
    ),
];

fn in_compound_file(names: &[String]) -> &'static str {
    let kinds = [
        ("__properties_version1.0", "application/vnd.ms-outlook"),
        ("WordDocument", "application/msword"),
        ("Workbook", "application/vnd.ms-excel"),
        ("Book", "application/vnd.ms-excel"),
        ("PowerPoint Document", "application/vnd.ms-powerpoint"),
    ];
    let has = |stream: &str| names.iter().any(|known| known == stream);
    let kind = kinds.into_iter().find(|(stream, _)| has(stream));
    kind.map_or("application/x-ole-storage", |(_, media_type)| media_type)
}

/// Whether the text is a media type (RFC 6838 section 4.2), or all of one
/// kind, such as `image/*`.
pub fn is_pattern(text: &str) -> bool {
    let is_name = |name: &str| {
        (1..=127).contains(&name.len())
            && name.starts_with(|first: char| first.is_ascii_alphanumeric())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte))
    };
    text.split_once('/').is_some_and(|(kind, rest)| is_name(kind) && (rest == "*" || is_name(rest)))
}

/// Whether a media type is what a pattern names. Case does not matter.
pub fn fits(media_type: &str, pattern: &str) -> bool {
    match (pattern.strip_suffix("/*"), media_type.split_once('/')) {
        (Some(kind), Some((found, _))) => found.eq_ignore_ascii_case(kind),
        _ => media_type.eq_ignore_ascii_case(pattern),
    }
}

#[cfg(test)]
mod tests;
