use std::io::{Cursor, Read, Write as _, repeat};

use super::{Bounds, Inside, MAX_DEPTH, MAX_MARKUP, MAX_NESTING, MAX_PART, MAX_PARTS};
use crate::documents::text::{Options, extract};

const MIB: u64 = 1 << 20;

/// The code with which a document is refused, on as much stack as a worker has.
fn refusal(bytes: Vec<u8>) -> String {
    let reading = std::thread::Builder::new().stack_size(256 << 20);
    let reading = reading.spawn(move || extract(&bytes, &Options::default()));
    reading.unwrap().join().unwrap().map_or_else(|error| error.code, |_| "none".to_owned())
}

#[test]
fn a_part_and_all_parts_together_have_a_largest_size() {
    let large = Bounds { size: u64::MAX, ..Bounds::of(b"") };
    assert!(large.check(MAX_PART).is_ok());
    assert!(large.check(MAX_PART + 1).is_err());
    assert!(large.add(MAX_PART).is_ok() && large.add(MAX_PART).is_ok());
    assert_eq!(large.add(1).unwrap_err().code, "document_too_large");
}

#[test]
fn a_small_document_unpacks_to_no_more_than_its_share() {
    let small = Bounds::of(&[0; 1000]);
    assert_eq!(small.read(repeat(0).take(64 * MIB)).unwrap().unwrap().len() as u64, 64 * MIB);
    assert!(small.check(0).is_ok());
    assert_eq!(small.read(repeat(0).take(1)).unwrap_err().code, "document_too_large");
}

#[test]
fn an_endless_part_is_left_at_the_bound() {
    let bounds = Bounds::of(b"");
    assert_eq!(bounds.read(repeat(0)).unwrap_err().code, "document_too_large");
}

#[test]
fn containers_stand_in_each_other_only_so_deep() {
    let bounds = Bounds::of(b"");
    let mut inside = Inside::nothing(&bounds);
    for _ in 0..MAX_DEPTH {
        inside = inside.deeper().unwrap();
    }
    assert_eq!(inside.deeper().unwrap_err().code, "document_too_large");
}

#[test]
fn mails_in_mails_are_read_to_the_bound_and_refused_beyond() {
    let nested = |depth: u32| {
        let head = "Subject: x\r\nFrom: a@example.com\r\nTo: b@example.com\r\n";
        let mut mail = format!("{head}\r\nthe innermost");
        for level in 0..depth {
            mail = format!(
                "{head}MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b{level}\r\n\r\n\
                 --b{level}\r\nContent-Type: message/rfc822\r\n\r\n{mail}\r\n--b{level}--\r\n"
            );
        }
        mail.into_bytes()
    };
    let text = extract(&nested(MAX_DEPTH), &Options::default()).unwrap().text;
    assert!(text.contains("the innermost"));
    assert_eq!(refusal(nested(MAX_DEPTH + 1)), "document_too_large");
}

#[test]
fn an_archive_of_too_many_files_is_refused() {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for number in 0..=MAX_PARTS {
        zip.start_file(format!("word/{number}.xml"), zip::write::SimpleFileOptions::default())
            .unwrap();
    }
    assert_eq!(refusal(zip.finish().unwrap().into_inner()), "document_too_large");
}

#[test]
fn cells_repeated_within_repeated_cells_are_refused_before_they_are_written() {
    let open = "<table:table-cell table:number-columns-repeated=\"64\">".repeat(8);
    let close = "</table:table-cell>".repeat(8);
    let content = format!(
        "<office:document-content><office:body><office:text>{open}<text:p>0123456789</text:p>\
         {close}</office:text></office:body></office:document-content>"
    );
    assert!(64_usize.pow(8) > MAX_MARKUP);
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    let mime_type = "application/vnd.oasis.opendocument.text";
    for (name, text) in [("mimetype", mime_type), ("content.xml", &content)] {
        zip.start_file(name, options).unwrap();
        zip.write_all(text.as_bytes()).unwrap();
    }
    assert_eq!(refusal(zip.finish().unwrap().into_inner()), "document_too_large");
}

#[test]
fn elements_beyond_the_bound_are_refused_and_not_a_stack_overflow() {
    let page = format!("<html>{}deep", "<div>".repeat(MAX_NESTING));
    assert_eq!(refusal(page.into_bytes()), "document_too_large");
}
