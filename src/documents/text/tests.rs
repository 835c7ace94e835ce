use std::io::{Cursor, Write};

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

fn named(name: &str, bytes: &[u8]) -> Result<Text, JobError> {
    let options = Options { name: Some(name.to_owned()), ..Options::default() };
    extract(bytes, &options)
}

fn markdown(bytes: &[u8]) -> String {
    extract(bytes, &Options::default()).unwrap().text
}

fn plain(bytes: &[u8]) -> String {
    extract(bytes, &Options { output: Output::Plain, ..Options::default() }).unwrap().text
}

fn zip(files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content.as_bytes()).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

const FORM_FIELD: &str = "<< /FT /Tx /T (customer) /V (Ada Lovelace) /Subtype /Widget \
    /Rect [50 50 250 70] /P 3 0 R >>";

/// A PDF of one page with a form, whose content stream is `content`, without a
/// cross-reference table: readers rebuild it.
fn pdf(content: &str) -> Vec<u8> {
    let objects = [
        "<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [6 0 R] >> >>".to_owned(),
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_owned(),
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R \
         /Resources << /Font << /F1 5 0 R >> >> >>"
            .to_owned(),
        format!("<< /Length {} >>\nstream\n{content}\nendstream", content.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
            .to_owned(),
        FORM_FIELD.to_owned(),
    ];
    let mut pdf = "%PDF-1.4\n".to_owned();
    for (index, object) in objects.iter().enumerate() {
        pdf.push_str(&format!("{} 0 obj\n{object}\nendobj\n", index + 1));
    }
    pdf.push_str("trailer << /Root 1 0 R /Size 7 >>\n%%EOF\n");
    pdf.into_bytes()
}

#[test]
fn a_page_of_a_pdf_has_its_number_and_text() {
    let text = extract(&pdf("BT /F1 12 Tf 72 700 Td (Total 12.50) Tj ET"), &Options::default());
    let text = text.unwrap();
    assert_eq!(text.mime_type, "application/pdf");
    assert_eq!(text.pages.len(), 1);
    assert_eq!(text.pages[0].number, 1);
    assert!(text.text.contains("Total 12.50"), "{text:?}");
}

#[test]
fn a_line_of_a_pdf_stays_a_line_in_its_layout() {
    let content = "BT /F1 10 Tf 400 700 Td (12.50) Tj -350 0 Td (Tea) Tj 0 -12 Td [(Mi) 20 (lk)] \
        TJ 350 0 Td (9.00) Tj ET q 1 0 0 1 50 676 cm BT /F1 10 Tf (Sum) Tj 0 1 -1 0 500 0 Tm \
        (turned) Tj ET Q";
    let options = Options { output: Output::Layout, ..Options::default() };
    let text = extract(&pdf(content), &options).unwrap().text.replace("customer: Ada Lovelace", "");
    let lines: Vec<Vec<_>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let expected: [&[&str]; 5] = [&["Tea", "12.50"], &["Milk", "9.00"], &["Sum"], &[], &["turned"]];
    assert_eq!(lines, expected);
    let column = |word| text.lines().find_map(|line| line.find(word)).unwrap();
    assert_eq!(column("12.50"), column("9.00"));
}

/// The plain text of a page without a form.
fn page(content: &str) -> String {
    let document = String::from_utf8(pdf(content)).unwrap();
    let document = document.replace(" /AcroForm << /Fields [6 0 R] >>", "");
    let options = Options { output: Output::Plain, ..Options::default() };
    extract(document.as_bytes(), &options).unwrap().text
}

#[test]
fn columns_of_prose_are_read_one_after_the_other_and_tables_line_by_line() {
    let line = "some words that go on to the end of it";
    let mut content = String::from(
        "BT /F1 10 Tf 1 0 0 1 50 800 Tm (A heading over both columns of the page) Tj ",
    );
    for y in 0..6 {
        let at = 760 - 12 * y;
        content.push_str(&format!(
            "1 0 0 1 320 {at} Tm (R{y} {line}) Tj 1 0 0 1 50 {at} Tm (L{y} {line}) Tj "
        ));
    }
    content.push_str("ET");
    let text = page(&content);
    let order: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    let expected =
        ["A", "", "L0", "L1", "L2", "L3", "L4", "L5", "", "R0", "R1", "R2", "R3", "R4", "R5"];
    assert_eq!(order, expected, "{text}");
    let table = "BT /F1 10 Tf 50 700 Td (Tea) Tj 350 0 Td (12.50) Tj -350 -12 Td (Milk) Tj 350 0 Td (9.00) Tj ET";
    assert_eq!(page(table), "Tea\t12.50\nMilk\t9.00");
}

#[test]
fn what_a_pdf_says_its_text_is_goes_before_what_it_shows() {
    let content = "BT /F1 12 Tf 72 700 Td /Span << /ActualText (Invoice) >> BDC (Inv) Tj (o1ce) Tj EMC \
        ( no 7) Tj ET";
    assert_eq!(page(content), "Invoice no 7");
}

#[test]
fn text_outside_the_page_and_text_painted_twice_is_not_read_again() {
    let content = "BT /F1 12 Tf 72 700 Td (Bold) Tj ET BT /F1 12 Tf 72.3 700 Td (Bold) Tj ET \
        BT /F1 12 Tf 72 9000 Td (far away) Tj ET";
    assert_eq!(page(content), "Bold");
}

#[test]
fn the_values_of_a_form_are_part_of_the_text_in_every_output() {
    for output in [Output::Markdown, Output::Plain, Output::Layout] {
        let options = Options { output, ..Options::default() };
        let text = extract(&pdf("BT /F1 12 Tf 72 700 Td (Form) Tj ET"), &options).unwrap().text;
        assert!(text.contains("customer: Ada Lovelace"), "{output:?}: {text}");
    }
}

#[test]
fn a_pdf_without_text_is_an_error_that_names_ocr() {
    let scan = String::from_utf8(pdf("0 0 100 100 re f")).unwrap().replace("Ada Lovelace", "");
    let error = extract(scan.as_bytes(), &Options::default()).unwrap_err();
    assert_eq!(error.code, "document_has_no_text");
    assert!(error.detail.contains("OCR"));
}

#[test]
fn a_pdf_in_name_only_is_malformed() {
    let error = named("invoice.pdf", b"%PDF-1.7\nnothing of the kind").unwrap_err();
    assert_eq!(error.code, "document_malformed");
    assert_eq!(named("invoice.pdf", b"").unwrap_err().code, "document_malformed");
}

#[test]
fn an_empty_text_document_has_an_empty_text() {
    for name in ["empty.txt", "empty.eml", "empty.html", "empty"] {
        assert_eq!(named(name, b" \r\n").unwrap().text.trim(), "", "{name}");
    }
}

#[test]
fn content_goes_before_name_and_declared_type() {
    let bytes = pdf("BT /F1 12 Tf 72 700 Td (Hello) Tj ET");
    let options = Options {
        name: Some("photo.png".into()),
        mime_type: Some("text/plain".into()),
        output: Output::Plain,
        ..Options::default()
    };
    assert_eq!(extract(&bytes, &options).unwrap().mime_type, "application/pdf");
    assert_eq!(named("a.txt", b"{\\rtf1 Hello}").unwrap().mime_type, "application/rtf");
    assert_eq!(named("a.txt", b"{\"a\": 1}").unwrap().mime_type, "application/json");
    assert_eq!(
        named("a.txt", b"{\"a\":1}\n{\"a\":2}\n").unwrap().mime_type,
        "application/x-ndjson"
    );
    assert_eq!(named("a.txt", b"{\"a\": ").unwrap().mime_type, "text/plain");
    assert_eq!(named("a.csv", b"a;b\n1;2\n").unwrap().mime_type, "text/csv");
    assert_eq!(named("a", b"<!doctype html><p>x").unwrap().mime_type, "text/html");
    assert_eq!(named("a", b"<?xml version='1.0'?><a/>").unwrap().mime_type, "application/xml");
}

#[test]
fn what_is_no_document_is_unsupported_and_says_what_it_is() {
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01";
    let error = named("scan.txt", png).unwrap_err();
    assert_eq!(error.code, "unsupported_document");
    assert!(error.detail.contains("OCR"), "{error:?}");
    let noise: Vec<u8> = (0..2000_u32).map(|n| (n * n % 251) as u8).collect();
    assert_eq!(named("a.bin", &noise).unwrap_err().code, "unsupported_document");
    let archive = zip(&[("photo.jpg", "x")]);
    assert_eq!(named("a.zip", &archive).unwrap_err().code, "unsupported_document");
}

#[test]
fn text_of_every_common_encoding_is_read() {
    let german = "Größe: 12 €, „schön“, über die Straße hinaus – und zurück";
    let japanese = "請求書番号は一二三です。お支払い期限は月末までにお願いいたします。";
    let russian = "Счёт на оплату: сумма к оплате указана в рублях, срок: десять дней";
    let cases = [
        (german, "windows-1252"),
        (japanese, "shift_jis"),
        (japanese, "euc-jp"),
        (japanese, "iso-2022-jp"),
        (russian, "windows-1251"),
        (russian, "koi8-r"),
    ];
    for (text, label) in cases {
        let encoding = encoding_rs::Encoding::for_label(label.as_bytes()).unwrap();
        assert_eq!(markdown(&encoding.encode(text).0), text, "{label}");
    }
    let ascii = "invoice number 4711\n";
    let little: Vec<u8> = ascii.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = ascii.encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert_eq!(markdown(&little), ascii);
    assert_eq!(markdown(&big), ascii);
    assert_eq!(markdown(&[b"\xff\xfe".as_slice(), &little].concat()), ascii);
    let wide: Vec<u8> = "\u{feff}grün".chars().flat_map(|c| (c as u32).to_le_bytes()).collect();
    assert_eq!(markdown(&wide), "grün");
}

#[test]
fn the_charset_of_a_web_page_is_taken_from_its_meta_element() {
    let page = "<html><head><meta charset=\"shift_jis\"></head><body><p>請求書</p></body></html>";
    let (bytes, _, _) = encoding_rs::SHIFT_JIS.encode(page);
    assert_eq!(markdown(&bytes), "請求書");
    let page = "<html><head><meta http-equiv=Content-Type content='text/html; \
                charset=windows-1252'></head><body>Größe &amp; 5&nbsp;&euro;</body></html>";
    let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(page);
    assert_eq!(markdown(&bytes), "Größe & 5\u{a0}€");
}

const TABLE: &[u8] = b"<html><body><table><caption>Prices</caption><tr><td></td><th>Mon</th>\
    <th>Tue</th></tr><tr><th>Tea</th><td><p>1 | 2</p></td><td>3</td></tr>\
    <tr><th>Milk</th><td colspan=2>sold out</td></tr></table></body></html>";

#[test]
fn every_header_cell_of_a_table_is_kept() {
    let expected = "Prices\n\n|  | Mon | Tue |\n| --- | --- | --- |\n| Tea | 1 \\| 2 | 3 |\n\
                    | Milk | sold out | |";
    assert_eq!(markdown(TABLE).trim(), expected);
    assert_eq!(plain(TABLE), "Prices\n\tMon\tTue\nTea\t1 | 2\t3\nMilk\tsold out");
}

#[test]
fn scripts_and_styles_are_no_text_but_values_of_fields_are() {
    let page = b"<html><head><style>p{}</style><script>var a</script></head><body><form>\
        Name <input value='Ada'><textarea>two\nlines</textarea><a href='/x'><img src=y></a>\
        <img alt='Logo' src='data:image/png;base64,AAAA'></form></body></html>";
    for text in [markdown(page), plain(page)] {
        assert!(text.contains("Ada") && text.contains("two") && text.contains("Logo"), "{text}");
        assert!(!text.contains("var a") && !text.contains("p{}") && !text.contains("AAAA"));
        assert!(!text.contains("[]"), "{text}");
    }
}

#[test]
fn deeply_nested_markup_is_read() {
    let page = format!("<html>{}deep{}", "<div>".repeat(3000), "</div>".repeat(3000));
    let reading = std::thread::Builder::new().stack_size(256 << 20);
    let text = reading.spawn(move || plain(page.as_bytes())).unwrap().join().unwrap();
    assert_eq!(text, "deep");
}

#[test]
fn a_mail_gives_its_headers_its_body_and_what_is_attached() {
    let mail = "From: =?iso-8859-1?Q?J=F6rg?= <joerg@example.com>\r\nTo: b@example.com\r\n\
        Subject: =?UTF-8?B?R3LDvMOfZQ==?=\r\nDate: Fri, 23 Dec 2022 12:08:48 -0600\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n\
        --x\r\nContent-Type: text/plain; charset=windows-1252\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\nPreis: 5 =80\r\n\
        --x\r\nContent-Type: message/rfc822\r\n\r\nSubject: Inner\r\n\r\nnested body\r\n\
        --x\r\nContent-Type: text/csv; name=data.csv\r\n\
        Content-Disposition: attachment; filename=data.csv\r\n\r\na;b\r\n\
        --x--\r\n";
    let text = plain(mail.as_bytes());
    for part in ["From: Jörg <joerg@example.com>", "Subject: Grüße", "23 Dec 2022", "Preis: 5 €"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    for part in ["Subject: Inner", "nested body", "Attachment: data.csv", "a;b"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_mail_body_of_undeclared_encoding_is_guessed() {
    let head = "From: a@example.com\r\nTo: b@example.com\r\nSubject: x\r\n\r\n";
    let (body, _, _) = encoding_rs::WINDOWS_1252.encode("Die Größe beträgt fünf Meter");
    let mail = [head.as_bytes(), &body].concat();
    assert!(plain(&mail).contains("Größe beträgt fünf"));
}

#[test]
fn a_mail_may_mix_encodings() {
    let head = "From: a@example.com\r\nTo: b@example.com\r\nSubject: Grüße\r\n\
        Content-Type: text/html; charset=iso-2022-jp\r\n\r\n";
    let (body, _, _) = encoding_rs::ISO_2022_JP.encode("<p>請求書です</p>");
    let text = plain(&[head.as_bytes(), &body].concat());
    assert!(text.contains("Subject: Grüße") && text.contains("請求書です"), "{text}");
}

#[test]
fn an_encrypted_mail_is_said_to_be_encrypted() {
    let mail = "From: a@example.com\r\nTo: b@example.com\r\nSubject: x\r\nContent-Type: \
        multipart/encrypted; boundary=x\r\n\r\n--x\r\n\r\nVersion: 1\r\n--x--\r\n";
    let error = extract(mail.as_bytes(), &Options::default()).unwrap_err();
    assert_eq!(error.code, "document_encrypted");
}

#[test]
fn rtf_characters_of_every_kind_are_read() {
    let rtf = "{\\rtf1\\ansi\\ansicpg1252\\uc1{\\fonttbl{\\f0 Arial;}{\\f1\\fcharset128 MS;}\
        {\\f2\\fcharset204 Arial;}}{\\info{\\title hidden}}{\\*\\unknown hidden}\
        \\f0 Gr\\'f6\\'dfe \\u8364? \\{ok\\}\\par\n{\\f1 \\'90\\'bf\\'8b\\'81}\\par \
        {\\f2 \\'d1\\'f7\\'b8\\'f2}\\par \\uc2\\u-10179XX\\u-8704XX smile\\line next \\endash}";
    let text = plain(rtf.as_bytes());
    assert_eq!(text, "Größe € {ok}\n請求\nСчёт\n😀 smile\nnext –");
}

#[test]
fn rtf_tables_have_rows() {
    let rtf = "{\\rtf1\\ansi \\trowd\\intbl A\\cell B\\cell\\row \\trowd\\intbl 1\\cell 2\\cell\\row \
        \\pard after\\par}";
    assert_eq!(markdown(rtf.as_bytes()), "| A | B |\n| --- | --- |\n| 1 | 2 |\n\nafter");
}

fn open_document(mime_type: &str, body: &str) -> Vec<u8> {
    let content = format!(
        "<office:document-content><office:body>{body}</office:body></office:document-content>"
    );
    zip(&[("mimetype", mime_type), ("content.xml", &content), ("META-INF/manifest.xml", "<m/>")])
}

#[test]
fn open_document_text_keeps_headings_lists_and_notes() {
    let body = "<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes>\
        <text:h text:outline-level=\"2\">Title &amp; more</text:h><text:p>a<text:s text:c=\"2\"/>b\
        <text:note><text:note-citation>1</text:note-citation><text:note-body><text:p>foot</text:p>\
        </text:note-body></text:note></text:p><text:list><text:list-item><text:p>one</text:p>\
        </text:list-item></text:list></office:text>";
    let bytes = open_document("application/vnd.oasis.opendocument.text", body);
    let text = markdown(&bytes);
    assert!(text.starts_with("## Title & more"), "{text}");
    assert!(text.contains("foot") && text.contains("one") && !text.contains("deleted"), "{text}");
}

#[test]
fn sheets_of_an_open_document_are_pages_and_repeated_cells_stay_few() {
    let body = "<office:spreadsheet><table:table table:name=\"First\"><table:table-row>\
        <table:table-cell table:number-columns-repeated=\"2\"><text:p>x</text:p></table:table-cell>\
        <table:table-cell table:number-columns-repeated=\"16000\"/></table:table-row></table:table>\
        <table:table table:name=\"Second\"><table:table-row><table:table-cell><text:p>y</text:p>\
        </table:table-cell></table:table-row></table:table></office:spreadsheet>";
    let bytes = open_document("application/vnd.oasis.opendocument.spreadsheet", body);
    let text = extract(&bytes, &Options { output: Output::Plain, ..Options::default() }).unwrap();
    assert_eq!(text.mime_type, "application/vnd.oasis.opendocument.spreadsheet");
    let pages: Vec<_> = text
        .pages
        .iter()
        .map(|page| (page.title.as_deref().unwrap(), page.text.as_str()))
        .collect();
    assert_eq!(pages, [("First", "x\tx"), ("Second", "y")]);
}

#[test]
fn an_encrypted_open_document_is_said_to_be_encrypted() {
    let bytes = zip(&[
        ("mimetype", "application/vnd.oasis.opendocument.text"),
        ("content.xml", "\u{1}\u{2}"),
        ("META-INF/manifest.xml", "<m><manifest:encryption-data/></m>"),
    ]);
    assert_eq!(named("a.odt", &bytes).unwrap_err().code, "document_encrypted");
}

#[test]
fn chapters_of_a_book_come_in_reading_order() {
    let package = "<package><manifest><item id='b' href='text/two.xhtml'/>\
        <item id='a' href='text/on%65.xhtml'/></manifest><spine><itemref idref='a'/>\
        <itemref idref='b'/></spine></package>";
    let bytes = zip(&[
        ("mimetype", "application/epub+zip"),
        ("META-INF/container.xml", "<c><rootfile full-path='OPS/book.opf'/></c>"),
        ("OPS/book.opf", package),
        ("OPS/text/one.xhtml", "<html><body><h1>One</h1></body></html>"),
        ("OPS/text/two.xhtml", "<html><body><p>two</p></body></html>"),
    ]);
    assert_eq!(markdown(&bytes), "# One\n\ntwo");
}

#[test]
fn truncated_containers_are_malformed_and_never_a_panic() {
    let book = zip(&[("mimetype", "application/epub+zip"), ("META-INF/container.xml", "<c/>")]);
    assert_eq!(named("a.epub", &book).unwrap_err().code, "document_malformed");
    let cut = &book[..book.len() / 2];
    assert_eq!(named("a.docx", cut).unwrap_err().code, "document_malformed");
    let compound = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 and no more";
    assert_eq!(named("a.doc", compound).unwrap_err().code, "document_malformed");
}
