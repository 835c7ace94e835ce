//! Where everything stands on the pages of an invoice.

use crate::canvas::{self, Canvas, Colour, Font, HEIGHT, WIDTH};
use crate::invoice::{Invoice, Item};

const LEFT: f32 = 56.0;
const RIGHT: f32 = WIDTH - 56.0;
const BLACK: Colour = [0.13, 0.14, 0.16];
const GREY: Colour = [0.45, 0.47, 0.5];
const PALE: Colour = [0.955, 0.96, 0.965];
const WHITE: Colour = [1.0, 1.0, 1.0];

const TEXT: Font = Font { size: 9.5, bold: false, colour: BLACK };
const STRONG: Font = Font { size: 9.5, bold: true, colour: BLACK };
const SMALL: Font = Font { size: 7.5, bold: false, colour: GREY };

const ROW: f32 = 21.0;
/// Rows that fit on the first page and on the others, and what the sums take.
const FIRST_ROWS: usize = 21;
const MORE_ROWS: usize = 26;
const SUMS_ROWS: usize = 8;

/// Places of the columns: left ends of texts, right ends of numbers.
const COLUMNS: [Column; 7] = [
    Column { x: LEFT + 6.0, right: false },
    Column { x: LEFT + 34.0, right: false },
    Column { x: LEFT + 92.0, right: false },
    Column { x: LEFT + 286.0, right: true },
    Column { x: LEFT + 300.0, right: false },
    Column { x: LEFT + 412.0, right: true },
    Column { x: RIGHT - 6.0, right: true },
];

struct Column {
    x: f32,
    right: bool,
}

/// Draws the invoice and writes it as PDF.
pub fn render(invoice: &Invoice) -> Vec<u8> {
    let parts = paginate(invoice.items);
    let count = parts.len();
    let mut pages = Vec::new();
    let (mut position, mut carried) = (0, 0);
    for (index, items) in parts.into_iter().enumerate() {
        let mut canvas = Canvas::new();
        letter_head(&mut canvas, invoice);
        let mut y = if index == 0 { opening(&mut canvas, invoice) } else { 122.0 };
        table_head(&mut canvas, invoice, y);
        y += ROW;
        if index > 0 {
            carried_row(&mut canvas, invoice, carried, y);
            y += ROW;
        }
        for item in items {
            position += 1;
            row(&mut canvas, invoice, position, item, y);
            carried += item.amount();
            y += ROW;
        }
        if index + 1 < count {
            carried_row(&mut canvas, invoice, carried, y);
        } else {
            closing(&mut canvas, invoice, y + 12.0);
        }
        footer(&mut canvas, invoice, index + 1, count);
        pages.push(canvas);
    }
    canvas::write(&format!("{} – {}", invoice.heading, invoice.seller[0]), invoice.language, pages)
}

/// Splits the items so that the sums find room on the last page.
fn paginate(items: &[Item]) -> Vec<&[Item]> {
    let mut pages = Vec::new();
    let mut rest = items;
    let mut room = FIRST_ROWS;
    while rest.len() + SUMS_ROWS > room {
        let (page, behind) = rest.split_at(rest.len().min(room - 1));
        pages.push(page);
        rest = behind;
        room = MORE_ROWS;
    }
    pages.push(rest);
    pages
}

fn letter_head(canvas: &mut Canvas, invoice: &Invoice) {
    let accent = invoice.accent;
    canvas.fill(0.0, 0.0, WIDTH, 8.0, accent);
    water_wheel(canvas, LEFT + 20.0, 62.0, accent);
    let [name, business] = invoice.seller;
    canvas.text(name, LEFT + 54.0, 62.0, Font { size: 19.0, bold: true, colour: accent });
    canvas.text(business, LEFT + 54.0, 77.0, Font { size: 9.0, bold: false, colour: GREY });
    canvas.line((LEFT, 98.0), (RIGHT, 98.0), 0.6, accent);
}

fn water_wheel(canvas: &mut Canvas, x: f32, y: f32, colour: Colour) {
    canvas.circle(x, y, 17.0, 2.2, colour);
    canvas.circle(x, y, 11.5, 1.0, colour);
    canvas.circle(x, y, 3.0, 2.0, colour);
    for spoke in 0_u8..8 {
        let (sine, cosine) = (f32::from(spoke) * std::f32::consts::FRAC_PI_4).sin_cos();
        let at = |radius: f32| (x + radius * cosine, y + radius * sine);
        canvas.line(at(4.0), at(20.5), 1.6, colour);
    }
}

/// Addresses, heading and references; returns where the table begins.
fn opening(canvas: &mut Canvas, invoice: &Invoice) -> f32 {
    canvas.text(invoice.sender, LEFT, 128.0, SMALL);
    let mut y = 148.0;
    for (index, line) in invoice.buyer.iter().enumerate() {
        canvas.text(line, LEFT, y, if index == 0 { STRONG } else { TEXT });
        y += 13.5;
    }
    let mut y = 148.0;
    for [label, value] in invoice.references {
        canvas.text(label, 300.0, y, Font { colour: GREY, ..TEXT });
        canvas.text_right(value, RIGHT, y, STRONG);
        y += 15.0;
    }
    let heading = Font { size: 22.0, bold: true, colour: BLACK };
    canvas.text(invoice.heading, LEFT, 256.0, heading);
    276.0
}

fn table_head(canvas: &mut Canvas, invoice: &Invoice, y: f32) {
    canvas.fill(LEFT, y, RIGHT - LEFT, ROW, invoice.accent);
    cells(canvas, &invoice.columns, y, Font { size: 8.5, bold: true, colour: WHITE });
}

fn row(canvas: &mut Canvas, invoice: &Invoice, position: usize, item: &Item, y: f32) {
    if position.is_multiple_of(2) {
        canvas.fill(LEFT, y, RIGHT - LEFT, ROW, PALE);
    }
    let format = invoice.format;
    let [position, quantity, price, amount] = [
        position.to_string(),
        format.quantity(item.quantity),
        format.amount(item.price),
        format.amount(item.amount()),
    ];
    let texts = [&position, item.article, item.description, &quantity, item.unit, &price, &amount];
    cells(canvas, &texts, y, TEXT);
}

fn cells(canvas: &mut Canvas, texts: &[&str; 7], y: f32, font: Font) {
    for (text, column) in texts.iter().zip(COLUMNS) {
        let draw = if column.right { Canvas::text_right } else { Canvas::text };
        draw(canvas, text, column.x, y + 14.0, font);
    }
}

fn carried_row(canvas: &mut Canvas, invoice: &Invoice, amount: i64, y: f32) {
    canvas.text(invoice.carried, LEFT + 92.0, y + 14.0, STRONG);
    canvas.text_right(&invoice.format.amount(amount), RIGHT - 6.0, y + 14.0, STRONG);
    canvas.line((LEFT, y + ROW), (RIGHT, y + ROW), 0.4, GREY);
}

/// Sums and terms.
fn closing(canvas: &mut Canvas, invoice: &Invoice, top: f32) {
    let (subtotal, tax) = (invoice.subtotal(), invoice.tax_amount());
    let [subtotal_word, total_word] = invoice.sums;
    let tax_word = format!("{} {} %", invoice.tax.0, invoice.tax.1);
    canvas.line((LEFT, top - 6.0), (RIGHT, top - 6.0), 0.6, GREY);
    let labels = 346.0;
    let mut y = top + 12.0;
    for (word, amount) in [(subtotal_word, subtotal), (&tax_word, tax)] {
        canvas.text(word, labels, y, TEXT);
        canvas.text_right(&invoice.format.sum(amount), RIGHT - 6.0, y, TEXT);
        y += 16.0;
    }
    canvas.fill(labels - 10.0, y - 9.0, RIGHT - labels + 10.0, 25.0, invoice.accent);
    let strong = Font { size: 11.5, bold: true, colour: WHITE };
    canvas.text(total_word, labels, y + 7.5, strong);
    canvas.text_right(&invoice.format.sum(subtotal + tax), RIGHT - 6.0, y + 7.5, strong);
    let mut y = y + 54.0;
    for (index, line) in invoice.terms.iter().enumerate() {
        canvas.text(line, LEFT, y, if index == 0 { STRONG } else { TEXT });
        y += 14.0;
    }
}

fn footer(canvas: &mut Canvas, invoice: &Invoice, page: usize, count: usize) {
    let top = HEIGHT - 72.0;
    canvas.line((LEFT, top), (RIGHT, top), 0.4, GREY);
    for (column, x) in invoice.footer.iter().zip([LEFT, 232.0, 400.0]) {
        let mut y = top + 13.0;
        for line in column {
            canvas.text(line, x, y, SMALL);
            y += 10.0;
        }
    }
    let [word, of] = invoice.page;
    canvas.text_right(&format!("{word} {page} {of} {count}"), RIGHT, HEIGHT - 18.0, SMALL);
}
