//! Long documents: books of running text with headings, tables and two
//! columns, made of random words from a fixed seed.

use std::io;
use std::path::{Path, PathBuf};

use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str};

/// Pages of the books.
const BOOKS: [usize; 3] = [300, 600, 1200];
/// The three fonts of a book: text, headings and tables.
const FONTS: [&str; 3] = ["Times-Roman", "Helvetica-Bold", "Courier"];

/// Writes the books into `folder`.
pub fn write_all(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut random = fastrand::Rng::with_seed(5);
    BOOKS
        .into_iter()
        .map(|pages| {
            let path = folder.join(format!("book-{pages}.pdf"));
            std::fs::write(&path, book(pages, &mut random))?;
            Ok(path)
        })
        .collect()
}

fn book(pages: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut next = Ref::new(1);
    let (catalog, tree) = (next.bump(), next.bump());
    let fonts = FONTS.map(|name| (next.bump(), name));
    let ids: Vec<_> = (0..pages).map(|_| (next.bump(), next.bump())).collect();
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree);
    let count = i32::try_from(pages).unwrap_or(i32::MAX);
    pdf.pages(tree).kids(ids.iter().map(|id| id.0)).count(count);
    for (number, (page, content)) in ids.into_iter().enumerate() {
        let mut page = pdf.page(page);
        page.parent(tree).media_box(Rect::new(0.0, 0.0, 595.0, 842.0)).contents(content);
        let mut resources = page.resources();
        let mut listed = resources.fonts();
        for (id, name) in fonts {
            listed.pair(Name(name.as_bytes()), id);
        }
        listed.finish();
        resources.finish();
        page.finish();
        pdf.stream(content, &text(number, random));
    }
    for (id, name) in fonts {
        pdf.type1_font(id).base_font(Name(name.as_bytes()));
    }
    pdf.finish()
}

/// The content of a page: every third has two columns, every fifth a table.
fn text(number: usize, random: &mut fastrand::Rng) -> Vec<u8> {
    let mut content = Content::new();
    line(&mut content, FONTS[1], 16.0, (60.0, 780.0), &words(random, 4));
    let columns =
        if number.is_multiple_of(3) { vec![(60.0, 5), (310.0, 5)] } else { vec![(60.0, 11)] };
    for (x, count) in columns {
        let mut y = 750.0;
        while y > 200.0 {
            line(&mut content, FONTS[0], 10.0, (x, y), &words(random, count));
            y -= 12.5;
        }
    }
    if number.is_multiple_of(5) {
        for row in 0..8_u8 {
            for column in 0..4_u8 {
                let at = (60.0 + 120.0 * f32::from(column), 180.0 - 14.0 * f32::from(row));
                let cell = format!("{}.{:02}", random.u32(0..100_000), random.u32(0..100));
                line(&mut content, FONTS[2], 9.0, at, &cell);
            }
        }
    }
    content.finish().to_vec()
}

fn line(content: &mut Content, font: &str, size: f32, at: (f32, f32), text: &str) {
    content.begin_text().set_font(Name(font.as_bytes()), size).next_line(at.0, at.1);
    content.show(Str(text.as_bytes())).end_text();
}

fn words(random: &mut fastrand::Rng, count: usize) -> String {
    let mut word = || -> String {
        (0..random.usize(2..9)).map(|_| char::from(random.u8(b'a'..=b'z'))).collect()
    };
    (0..count).map(|_| word()).collect::<Vec<_>>().join(" ")
}
