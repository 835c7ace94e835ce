//! Where each piece of text stands on a page: the text operators of its
//! content stream (ISO 32000-1, 9.4).

use std::rc::Rc;

use hayro_syntax::content::TypedIter;
use hayro_syntax::content::ops::TypedInstruction;
use hayro_syntax::object::dict::keys::{ACTUAL_TEXT, MATRIX, RESOURCES, SUBTYPE};
use hayro_syntax::object::{self, Array, Dict, Name, Number, Object, ObjectIdentifier};
use hayro_syntax::page::{Page, Resources};

use super::typeface::{Typeface, Typefaces};

/// How deep forms may paint each other.
const MAX_FORMS: usize = 8;
/// Most operators of a page that are followed, forms included: a form that is
/// painted often multiplies them.
const MAX_OPERATORS: usize = 4_000_000;
/// Gaps wider than this, in font sizes, divide what one operator shows.
const GAP: f32 = 0.15;

/// Text that was shown in one piece.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) text: String,
    /// Where its baseline begins and ends on the page as displayed, in points,
    /// y upwards.
    pub(super) start: (f32, f32),
    pub(super) end: (f32, f32),
    /// Height of its font on the page, in points.
    pub(super) size: f32,
}

/// What a page shows.
#[derive(Default)]
pub(super) struct Shown {
    /// Its text, piece by piece in the order of painting.
    pub(super) runs: Vec<Run>,
    /// Characters whose font tells what they are.
    pub(super) read: usize,
    /// Characters whose font does not.
    pub(super) unread: usize,
}

/// Reads a page.
pub(super) fn shown<'a>(page: &Page<'a>, typefaces: &mut Typefaces<'a>) -> Shown {
    #[expect(clippy::cast_possible_truncation, reason = "a page is small")]
    let matrix = Matrix(page.initial_transform(false).as_coeffs().map(|n| n as f32));
    let mut reader = Reader {
        typefaces,
        shown: Shown::default(),
        area: page.render_dimensions(),
        forms: Vec::new(),
        marks: Vec::new(),
        operators: 0,
    };
    let state = State { matrix, ..State::default() };
    reader.paint(page.typed_operations(), page.resources(), state);
    reader.shown
}

/// An affine transformation, as PDF writes it: `[a b c d e f]`.
#[derive(Debug, Clone, Copy)]
struct Matrix([f32; 6]);

impl Matrix {
    const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

    fn of(numbers: [Number; 6]) -> Self {
        Self(numbers.map(|number| number.as_f32()))
    }

    fn shift(x: f32, y: f32) -> Self {
        Self([1.0, 0.0, 0.0, 1.0, x, y])
    }

    /// This transformation first, then `next`.
    fn then(self, next: Self) -> Self {
        let (Self([a, b, c, d, e, f]), Self([p, q, r, s, t, u])) = (self, next);
        Self([
            a * p + b * r,
            a * q + b * s,
            c * p + d * r,
            c * q + d * s,
            e * p + f * r + t,
            e * q + f * s + u,
        ])
    }

    fn apply(self, x: f32, y: f32) -> (f32, f32) {
        let Self([a, b, c, d, e, f]) = self;
        (a * x + c * y + e, b * x + d * y + f)
    }
}

/// The part of the graphics state that places text.
#[derive(Clone)]
struct State<'a> {
    matrix: Matrix,
    font: Option<Rc<Typeface<'a>>>,
    size: f32,
    character_spacing: f32,
    word_spacing: f32,
    /// 1 is normal.
    horizontal_scale: f32,
    leading: f32,
    rise: f32,
    text: Matrix,
    line: Matrix,
}

impl Default for State<'_> {
    fn default() -> Self {
        Self {
            matrix: Matrix::IDENTITY,
            font: None,
            size: 12.0,
            character_spacing: 0.0,
            word_spacing: 0.0,
            horizontal_scale: 1.0,
            leading: 0.0,
            rise: 0.0,
            text: Matrix::IDENTITY,
            line: Matrix::IDENTITY,
        }
    }
}

impl State<'_> {
    fn next_line(&mut self, x: f32, y: f32) {
        self.line = Matrix::shift(x, y).then(self.line);
        self.text = self.line;
    }

    /// Moves the text position along the line, by text space units.
    fn advance(&mut self, by: f32, horizontal: bool) {
        let by = if horizontal {
            Matrix::shift(by * self.horizontal_scale, 0.0)
        } else {
            Matrix::shift(0.0, by)
        };
        self.text = by.then(self.text);
    }

    /// Where the text position is on the page.
    fn position(&self) -> (f32, f32) {
        let (x, y) = self.text.apply(0.0, self.rise);
        self.matrix.apply(x, y)
    }

    /// Height of the font on the page.
    fn height(&self) -> f32 {
        let to_page = self.text.then(self.matrix);
        let (base, top) = (to_page.apply(0.0, 0.0), to_page.apply(0.0, self.size));
        (top.0 - base.0).hypot(top.1 - base.1)
    }
}

struct Reader<'t, 'a> {
    typefaces: &'t mut Typefaces<'a>,
    shown: Shown,
    /// Width and height of the page.
    area: (f32, f32),
    /// The forms being painted, outermost first.
    forms: Vec<ObjectIdentifier>,
    /// The marked content that is open: what its text really is, where the
    /// document says so, and its first run.
    marks: Vec<(Option<String>, usize)>,
    operators: usize,
}

impl<'a> Reader<'_, 'a> {
    fn paint(
        &mut self,
        mut operators: TypedIter<'_>,
        within: &Resources<'a>,
        mut state: State<'a>,
    ) {
        use TypedInstruction as Op;
        let mut saved = Vec::new();
        while let Some(operator) = operators.next() {
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return;
            }
            match operator {
                Op::SaveState(_) => saved.push(state.clone()),
                Op::RestoreState(_) => state = saved.pop().unwrap_or(state),
                Op::XObject(name) => self.form(name.0, within, &state),
                Op::TextFont(font) => {
                    state.font = self.font(font.0, within);
                    state.size = font.1.as_f32();
                }
                Op::BeginMarkedContent(_) => self.marks.push((None, self.shown.runs.len())),
                Op::BeginMarkedContentWithProperties(mark) => self.mark(mark.1, within),
                Op::EndMarkedContent(_) => self.end_mark(),
                Op::ShowText(text) => self.show(text.0, &mut state),
                Op::ShowTexts(parts) => self.show_parts(parts.0, &mut state),
                Op::NextLineAndShowText(text) => {
                    state.next_line(0.0, -state.leading);
                    self.show(text.0, &mut state);
                }
                Op::ShowTextWithParameters(text) => {
                    state.word_spacing = text.0.as_f32();
                    state.character_spacing = text.1.as_f32();
                    state.next_line(0.0, -state.leading);
                    self.show(text.2, &mut state);
                }
                other => place(&other, &mut state),
            }
        }
    }

    fn font(&mut self, name: &Name<'_>, within: &Resources<'a>) -> Option<Rc<Typeface<'a>>> {
        let id = within.fonts.get_ref(name.as_ref());
        if let Some(known) = id.and_then(|id| self.typefaces.known(id.into())) {
            return known;
        }
        self.typefaces.get(&within.get_font(name)?)
    }

    /// Paints a form in place of the operator that names it.
    fn form(&mut self, name: &Name<'_>, within: &Resources<'a>, state: &State<'a>) {
        let Some(stream) = within.get_x_object(name) else { return };
        let (dictionary, id) = (stream.dict(), stream.obj_id());
        let is_form =
            dictionary.get::<Name<'_>>(SUBTYPE).is_some_and(|kind| kind.as_ref() == b"Form");
        if !is_form || self.forms.len() >= MAX_FORMS || self.forms.contains(&id) {
            return;
        }
        let Ok(content) = stream.decoded_data() else { return };
        let own = dictionary.get::<Dict<'a>>(RESOURCES).map(Resources::new);
        let matrix = dictionary.get::<[f32; 6]>(MATRIX).map_or(Matrix::IDENTITY, Matrix);
        let state = State { matrix: matrix.then(state.matrix), ..state.clone() };
        self.forms.push(id);
        self.paint(TypedIter::new(&content), own.as_ref().unwrap_or(within), state);
        self.forms.pop();
    }

    fn mark(&mut self, properties: &Object<'_>, within: &Resources<'a>) {
        let text = match properties {
            Object::Dict(properties) => properties.get::<object::String<'_>>(ACTUAL_TEXT),
            Object::Name(name) => within
                .properties
                .get::<Dict<'a>>(name)
                .and_then(|properties| properties.get::<object::String<'_>>(ACTUAL_TEXT)),
            _ => None,
        };
        self.marks.push((text.map(|text| text_string(&text)), self.shown.runs.len()));
    }

    /// Puts what the text really is in the place of what was shown.
    fn end_mark(&mut self) {
        let Some((Some(text), first)) = self.marks.pop() else { return };
        let end = self.shown.runs.last().map(|last| last.end);
        self.shown.runs.truncate(first + 1);
        if let (Some(run), Some(end)) = (self.shown.runs.get_mut(first), end) {
            (run.text, run.end) = (text, end);
        }
    }

    fn show(&mut self, bytes: &[u8], state: &mut State<'a>) {
        let mut piece = Piece::new(state);
        self.append(bytes, state, &mut piece);
        self.end(piece, state);
    }

    fn show_parts(&mut self, parts: &Array<'_>, state: &mut State<'a>) {
        let horizontal = state.font.as_ref().is_none_or(|font| font.is_horizontal());
        let mut piece = Piece::new(state);
        for part in parts.iter::<Object<'_>>() {
            match part {
                Object::String(bytes) => self.append(&bytes, state, &mut piece),
                Object::Number(back) => {
                    let back = back.as_f32() / 1000.0;
                    if back.abs() > GAP {
                        self.end(piece, state);
                        state.advance(-back * state.size, horizontal);
                        piece = Piece::new(state);
                    } else {
                        state.advance(-back * state.size, horizontal);
                    }
                }
                _ => {}
            }
        }
        self.end(piece, state);
    }

    fn append(&mut self, mut bytes: &[u8], state: &mut State<'a>, piece: &mut Piece) {
        let Some(font) = state.font.clone() else { return };
        while !bytes.is_empty() {
            let (code, length) = font.code(bytes);
            bytes = bytes.get(length..).unwrap_or_default();
            let character = font.character(code);
            match &character.text {
                Some(text) => {
                    self.shown.read += 1;
                    piece.text.push_str(text);
                }
                None => self.shown.unread += 1,
            }
            let word = if code == 32 && length == 1 { state.word_spacing } else { 0.0 };
            let by = character.advance / 1000.0 * state.size + state.character_spacing + word;
            state.advance(by, font.is_horizontal());
        }
    }

    /// Keeps a piece that ends where the text position is.
    fn end(&mut self, piece: Piece, state: &State<'a>) {
        let (start, end, size) = (piece.start, state.position(), state.height());
        let finite = [start.0, start.1, end.0, end.1, size].iter().all(|n| n.is_finite());
        let (width, height) = self.area;
        let within = start.0 < width && end.0 > 0.0 && (0.0..=height).contains(&start.1);
        if finite && within && !piece.text.is_empty() {
            self.shown.runs.push(Run { text: piece.text, start, end, size });
        }
    }
}

/// Text in the making.
struct Piece {
    text: String,
    start: (f32, f32),
}

impl Piece {
    fn new(state: &State<'_>) -> Self {
        Self { text: String::new(), start: state.position() }
    }
}

/// Applies an operator that sets where and how text is placed.
fn place(operator: &TypedInstruction<'_, '_>, state: &mut State<'_>) {
    use TypedInstruction as Op;
    match operator {
        Op::Transform(m) => {
            state.matrix = Matrix::of([m.0, m.1, m.2, m.3, m.4, m.5]).then(state.matrix);
        }
        Op::BeginText(_) => (state.text, state.line) = (Matrix::IDENTITY, Matrix::IDENTITY),
        Op::CharacterSpacing(by) => state.character_spacing = by.0.as_f32(),
        Op::WordSpacing(by) => state.word_spacing = by.0.as_f32(),
        Op::HorizontalScaling(by) => state.horizontal_scale = by.0.as_f32() / 100.0,
        Op::TextLeading(by) => state.leading = by.0.as_f32(),
        Op::TextRise(by) => state.rise = by.0.as_f32(),
        Op::NextLine(by) => state.next_line(by.0.as_f32(), by.1.as_f32()),
        Op::NextLineAndSetLeading(by) => {
            state.leading = -by.1.as_f32();
            state.next_line(by.0.as_f32(), by.1.as_f32());
        }
        Op::NextLineUsingLeading(_) => state.next_line(0.0, -state.leading),
        Op::SetTextMatrix(m) => {
            state.line = Matrix::of([m.0, m.1, m.2, m.3, m.4, m.5]);
            state.text = state.line;
        }
        _ => {}
    }
}

/// A text string (ISO 32000-1, 7.9.2.2): UTF-16 or UTF-8 after their marks,
/// else PDFDocEncoding, whose letters are those of Windows-1252.
fn text_string(bytes: &[u8]) -> String {
    let encoding = encoding_rs::Encoding::for_bom(bytes);
    let (encoding, mark) = encoding.unwrap_or((encoding_rs::WINDOWS_1252, 0));
    let (text, _) = encoding.decode_without_bom_handling(bytes.get(mark..).unwrap_or_default());
    text.chars().filter(|c| !c.is_control()).collect()
}
