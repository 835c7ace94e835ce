//! Types of documents of every kind, whatever they are called.

use std::io::{Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::*;
use crate::documents::text::detect::detect;

async fn type_of(bytes: &[u8], name: &str) -> &'static str {
    let folder = tempfile::tempdir().unwrap();
    let store = DocumentStore::in_folder(folder.path().to_str().unwrap()).unwrap();
    let stored = store.put(bytes.to_vec().into()).await.unwrap();
    let options = Options { name: Some(name.to_owned()), ..Options::default() };
    of(&store, stored, options).await.unwrap()
}

fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, content) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(content).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// A compound file with these streams in its root, and one in a folder.
fn compound(streams: &[&str], padding: usize) -> Vec<u8> {
    let mut file = cfb::CompoundFile::create(Cursor::new(Vec::new())).unwrap();
    file.create_storage("/folder").unwrap();
    file.create_stream("/folder/WordDocument").unwrap();
    let mut large = file.create_stream("/large").unwrap();
    large.write_all(&vec![7; padding]).unwrap();
    drop(large);
    for stream in streams {
        file.create_stream(format!("/{stream}")).unwrap();
    }
    file.flush().unwrap();
    file.into_inner().into_inner()
}

#[tokio::test]
async fn the_content_decides_and_not_the_name() {
    let program = [b"MZ\x90\0\x03\0\0\0".as_slice(), &[0; 200]].concat();
    let image = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01";
    let bytes: [(&[u8], &str, &str); 9] = [
        (b"%PDF-1.7\n1 0 obj", "report.txt", "application/pdf"),
        (&program, "report.pdf", "application/vnd.microsoft.portable-executable"),
        (b"MZ is not always a program.\n", "a.pdf", "text/plain"),
        (image, "a.pdf", "image/png"),
        (b"{\\rtf1 a}", "a.doc", "application/rtf"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b"a,b\n1,2\n", "a.pdf", "text/plain"),
        (b"\x01\x02\x03\x04\x05\x06\x07", "a.txt", "application/octet-stream"),
        (b"<!doctype html><p>a", "a.txt", "text/html"),
    ];
    for (bytes, name, expected) in bytes {
        assert_eq!(type_of(bytes, name).await, expected, "{name}");
    }
}

#[tokio::test]
async fn json_is_known_by_its_beginning_when_it_is_longer_than_what_is_looked_at() {
    let whole = format!("[{}1]", "\"\u{e4}\", ".repeat(40_000));
    assert!(whole.len() as u64 > HEAD);
    assert_eq!(type_of(whole.as_bytes(), "a.txt").await, "application/json");
    let lines = "{\"a\": 1}\n".repeat(40_000);
    assert_eq!(type_of(lines.as_bytes(), "a.txt").await, "application/x-ndjson");
    let text = format!("[1] {}", "x".repeat(100_000));
    assert_eq!(type_of(text.as_bytes(), "a.txt").await, "text/plain");
}

#[tokio::test]
async fn an_archive_is_what_its_directory_says_however_large_it_is() {
    let filling = vec![7; 1 << 20];
    let package = |folder: &str, more: &[(&str, &[u8])]| {
        let main = format!("{folder}main.xml");
        let mut files: Vec<(&str, &[u8])> =
            vec![("[Content_Types].xml", b"x"), ("filling", &filling), (&main, b"x")];
        files.extend(more);
        zip(&files)
    };
    let openxml = "application/vnd.openxmlformats-officedocument";
    for (bytes, expected) in [
        (package("word/", &[]), format!("{openxml}.wordprocessingml.document")),
        (package("xl/", &[]), format!("{openxml}.spreadsheetml.sheet")),
        (package("ppt/", &[]), format!("{openxml}.presentationml.presentation")),
        (
            package("word/", &[("word/vbaProject.bin", b"x")]),
            "application/vnd.ms-word.document.macroEnabled.12".to_owned(),
        ),
        (package("other/", &[]), "application/zip".to_owned()),
        (
            zip(&[
                ("mimetype", b"application/vnd.oasis.opendocument.spreadsheet"),
                ("a", &filling),
            ]),
            "application/vnd.oasis.opendocument.spreadsheet".to_owned(),
        ),
        (zip(&[("mimetype", b"application/epub+zip")]), "application/epub+zip".to_owned()),
        (zip(&[("word/document.xml", b"x")]), "application/zip".to_owned()),
        (zip(&[]), "application/zip".to_owned()),
        (b"PK\x03\x04 and no more".to_vec(), "application/zip".to_owned()),
    ] {
        assert_eq!(type_of(&bytes, "a.pdf").await, expected);
        // A comment at the end and bytes that were cut off harm nobody.
        assert!(!type_of(&bytes[..bytes.len() / 2], "a.pdf").await.is_empty());
    }
}

#[tokio::test]
async fn a_compound_file_is_what_lies_in_its_root_however_large_it_is() {
    let cases: [(&[&str], &str); 6] = [
        (&["WordDocument"], "application/msword"),
        (&["Workbook"], "application/vnd.ms-excel"),
        (&["PowerPoint Document"], "application/vnd.ms-powerpoint"),
        (&["__properties_version1.0"], "application/vnd.ms-outlook"),
        (&["EncryptedPackage", "EncryptionInfo"], "application/x-ole-storage"),
        (&[], "application/x-ole-storage"),
    ];
    for (streams, expected) in cases {
        for padding in [0, 3 << 20] {
            let bytes = compound(streams, padding);
            assert_eq!(type_of(&bytes, "a.pdf").await, expected, "{streams:?}");
        }
    }
    let many: Vec<_> = (0..200).map(|number| format!("stream {number}")).collect();
    let mut streams: Vec<_> = many.iter().map(String::as_str).collect();
    streams.push("WordDocument");
    assert_eq!(type_of(&compound(&streams, 0), "a").await, "application/msword");
}

#[tokio::test]
async fn a_compound_file_that_leads_in_circles_or_nowhere_is_just_that() {
    let good = compound(&["WordDocument"], 0);
    for place in [44, 48, 68, 76, 512, 1024] {
        for value in [0_u32, 1, 2, u32::MAX - 1, 0x0100_0000] {
            let mut bytes = good.clone();
            bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
            let found = type_of(&bytes, "a").await;
            assert!(["application/msword", "application/x-ole-storage"].contains(&found));
        }
    }
}

#[tokio::test]
async fn the_corpus_has_the_types_by_which_its_texts_are_read() {
    for folder in ["documents", "hostile"] {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus");
        let Ok(entries) = std::fs::read_dir(format!("{corpus}/{folder}")) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            let name = path.file_name().unwrap().to_str().unwrap();
            let options = Options { name: Some(name.to_owned()), ..Options::default() };
            if let Ok(format) = detect(&bytes, &options) {
                assert_eq!(type_of(&bytes, name).await, format.mime_type(), "{name}");
            }
        }
    }
}

#[test]
fn a_pattern_is_a_type_or_a_kind_and_fits_in_any_case() {
    for good in ["application/pdf", "image/*", "text/x-a.b+c", "APPLICATION/PDF"] {
        assert!(is_pattern(good), "{good}");
    }
    for bad in ["", "pdf", "/pdf", "image/", "*/*", "image/p*", "text/plain; a=b", " text/plain"] {
        assert!(!is_pattern(bad), "{bad}");
    }
    assert!(fits("image/png", "image/*") && fits("image/png", "Image/PNG"));
    assert!(!fits("image/png", "imag/*") && !fits("image/png", "image/pn"));
}
