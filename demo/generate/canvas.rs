//! A4 pages with text in Helvetica, boxes and lines, written as PDF.
//!
//! Lengths are points (1/72 inch) from the top left corner of the page.

use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

/// Size of an A4 page.
pub const WIDTH: f32 = 595.0;
/// Size of an A4 page.
pub const HEIGHT: f32 = 842.0;

const REGULAR: Name = Name(b"F1");
const BOLD: Name = Name(b"F2");

/// A colour in red, green and blue of 0 to 1.
pub type Colour = [f32; 3];

/// How text looks.
#[derive(Clone, Copy)]
pub struct Font {
    /// Height in points.
    pub size: f32,
    /// Bold or regular.
    pub bold: bool,
    /// Its colour.
    pub colour: Colour,
}

/// One page in work.
pub struct Canvas {
    content: Content,
}

impl Canvas {
    /// An empty page.
    pub fn new() -> Self {
        Self { content: Content::new() }
    }

    /// Writes `text` with its left end at `x` and its base line at `y`.
    pub fn text(&mut self, text: &str, x: f32, y: f32, font: Font) {
        let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(text);
        let [red, green, blue] = font.colour;
        self.content
            .begin_text()
            .set_fill_rgb(red, green, blue)
            .set_font(if font.bold { BOLD } else { REGULAR }, font.size)
            .next_line(x, HEIGHT - y)
            .show(Str(&bytes))
            .end_text();
    }

    /// Writes `text` with its right end at `x`.
    pub fn text_right(&mut self, text: &str, x: f32, y: f32, font: Font) {
        self.text(text, x - width(text, font), y, font);
    }

    /// Fills a box whose top left corner is at `x` and `y`.
    pub fn fill(&mut self, x: f32, y: f32, width: f32, height: f32, colour: Colour) {
        let [red, green, blue] = colour;
        self.content.set_fill_rgb(red, green, blue);
        self.content.rect(x, HEIGHT - y - height, width, height).fill_nonzero();
    }

    /// Draws a line.
    pub fn line(&mut self, from: (f32, f32), to: (f32, f32), thickness: f32, colour: Colour) {
        let [red, green, blue] = colour;
        self.content.set_stroke_rgb(red, green, blue).set_line_width(thickness);
        self.content.move_to(from.0, HEIGHT - from.1).line_to(to.0, HEIGHT - to.1).stroke();
    }

    /// Draws a circle.
    pub fn circle(&mut self, x: f32, y: f32, radius: f32, thickness: f32, colour: Colour) {
        // The length of handles with which four curves come closest to a circle.
        let handle = 0.5523 * radius;
        let (y, [red, green, blue]) = (HEIGHT - y, colour);
        self.content.set_stroke_rgb(red, green, blue).set_line_width(thickness);
        self.content
            .move_to(x + radius, y)
            .cubic_to(x + radius, y + handle, x + handle, y + radius, x, y + radius)
            .cubic_to(x - handle, y + radius, x - radius, y + handle, x - radius, y)
            .cubic_to(x - radius, y - handle, x - handle, y - radius, x, y - radius)
            .cubic_to(x + handle, y - radius, x + radius, y - handle, x + radius, y)
            .close_and_stroke();
    }
}

/// Writes the pages as one PDF.
pub fn write(title: &str, language: &str, pages: Vec<Canvas>) -> Vec<u8> {
    let [catalog, tree, info, regular, bold] = [1, 2, 3, 4, 5].map(Ref::new);
    let ids: Vec<(Ref, Ref)> =
        (6..).step_by(2).map(|id| (Ref::new(id), Ref::new(id + 1))).take(pages.len()).collect();
    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree).lang(TextStr(language));
    pdf.document_info(info).title(TextStr(title));
    let kids = ids.iter().map(|(page, _)| *page);
    pdf.pages(tree).kids(kids).count(i32::try_from(pages.len()).unwrap_or(i32::MAX));
    for ((page, content), canvas) in ids.iter().zip(pages) {
        let mut page = pdf.page(*page);
        page.parent(tree).media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).contents(*content);
        page.resources().fonts().pair(REGULAR, regular).pair(BOLD, bold);
        page.finish();
        pdf.stream(*content, &canvas.content.finish());
    }
    for (id, name) in [(regular, "Helvetica"), (bold, "Helvetica-Bold")] {
        pdf.type1_font(id)
            .base_font(Name(name.as_bytes()))
            .encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    pdf.finish()
}

/// Length of `text` in points, by the widths that Helvetica's makers publish.
fn width(text: &str, font: Font) -> f32 {
    let widths = if font.bold { &BOLD_WIDTHS } else { &REGULAR_WIDTHS };
    // Accented letters are about as wide as digits.
    let of = |c: char| (c as usize).checked_sub(32).and_then(|i| widths.get(i)).unwrap_or(&556);
    text.chars().map(|c| f32::from(*of(c))).sum::<f32>() * font.size / 1000.0
}

/// Thousandths of the size, from the blank to the tilde.
#[rustfmt::skip]
const REGULAR_WIDTHS: [u16; 95] = [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556, 1015,
    667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333,
    556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833,
    556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
];

/// As above, for bold letters.
#[rustfmt::skip]
const BOLD_WIDTHS: [u16; 95] = [
    278, 333, 474, 556, 556, 889, 722, 238, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 333, 333, 584, 584, 584, 611, 975,
    722, 722, 722, 722, 667, 611, 778, 722, 278, 556, 722, 611, 833,
    722, 778, 667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 333, 278, 333, 584, 556, 333,
    556, 611, 556, 611, 556, 333, 611, 611, 278, 278, 556, 278, 889,
    611, 611, 611, 611, 389, 556, 333, 611, 556, 778, 556, 556, 500, 389, 280, 389, 584,
];
