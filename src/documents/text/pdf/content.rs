//! Where each piece of text stands on a page: the text operators of its
//! content stream (ISO 32000-1, 9.4), with fonts decoded by unpdf.

use unpdf::parser::backend::{
    ContentOp, FormXObject, ObjectId, PageId, PaintedXObject, PdfBackend, PdfValue, RawBackend,
    ResourceScope, get_number_from_value,
};

/// How deep forms may paint each other.
const MAX_FORMS: usize = 8;
/// Most operators of a page that are followed, forms included: a form that is
/// painted often multiplies them.
const MAX_OPERATORS: usize = 4_000_000;

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

/// The text of a page, piece by piece in the order of painting.
pub(super) fn runs(backend: &RawBackend, page: PageId) -> Vec<Run> {
    let Ok(content) = backend.page_content(page) else { return Vec::new() };
    let Ok(operators) = backend.decode_content(&content) else { return Vec::new() };
    let state = State { matrix: display(backend, page), ..State::default() };
    let mut reader = Reader { backend, page, runs: Vec::new(), forms: Vec::new(), operators: 0 };
    reader.paint(&operators, state);
    reader.runs
}

/// An affine transformation, as PDF writes it: `[a b c d e f]`.
#[derive(Debug, Clone, Copy)]
struct Matrix([f32; 6]);

impl Matrix {
    const IDENTITY: Self = Self([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);

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

/// From the page's own coordinates to those of the page as displayed.
fn display(backend: &RawBackend, page: PageId) -> Matrix {
    let area = backend.page_box(page);
    Matrix(match backend.page_rotation(page) {
        90 => [0.0, -1.0, 1.0, 0.0, -area.lly, area.urx],
        180 => [-1.0, 0.0, 0.0, -1.0, area.urx, area.ury],
        270 => [0.0, 1.0, -1.0, 0.0, area.ury, -area.llx],
        _ => [1.0, 0.0, 0.0, 1.0, -area.llx, -area.lly],
    })
}

/// The part of the graphics state that places text.
#[derive(Debug, Clone)]
struct State {
    matrix: Matrix,
    font: Vec<u8>,
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

impl Default for State {
    fn default() -> Self {
        Self {
            matrix: Matrix::IDENTITY,
            font: Vec::new(),
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

impl State {
    fn next_line(&mut self, x: f32, y: f32) {
        self.line = Matrix::shift(x, y).then(self.line);
        self.text = self.line;
    }

    /// Moves the text position along the line, by text space units.
    fn advance(&mut self, by: f32) {
        self.text = Matrix::shift(by, 0.0).then(self.text);
    }
}

struct Reader<'a> {
    backend: &'a RawBackend,
    page: PageId,
    runs: Vec<Run>,
    /// The forms being painted, outermost first.
    forms: Vec<ObjectId>,
    operators: usize,
}

impl Reader<'_> {
    fn paint(&mut self, operators: &[ContentOp], mut state: State) {
        let mut saved = Vec::new();
        for operator in operators {
            self.operators += 1;
            if self.operators > MAX_OPERATORS {
                return;
            }
            match operator.operator.as_str() {
                "q" => saved.push(state.clone()),
                "Q" => state = saved.pop().unwrap_or(state),
                "Do" => self.form(operator, &state),
                "'" | "\"" | "Tj" | "TJ" => self.show_operator(operator, &mut state),
                _ => place(operator, &mut state),
            }
        }
    }

    fn scope(&self) -> ResourceScope {
        match self.forms.last() {
            Some(&form) => ResourceScope::form(self.page, form),
            None => ResourceScope::page(self.page),
        }
    }

    /// Paints a form in place of the operator that names it.
    fn form(&mut self, operator: &ContentOp, state: &State) {
        let Some(PdfValue::Name(name)) = operator.operands.first() else { return };
        let Some(PaintedXObject::Form(form)) = self.backend.xobject(self.scope(), name) else {
            return;
        };
        let FormXObject { id, matrix, content: Some(content), .. } = form else { return };
        if self.forms.len() >= MAX_FORMS || self.forms.contains(&id) {
            return;
        }
        let Ok(operators) = self.backend.decode_content(&content) else { return };
        let state = State { matrix: Matrix(matrix).then(state.matrix), ..state.clone() };
        self.forms.push(id);
        self.paint(&operators, state);
        self.forms.pop();
    }

    fn show_operator(&mut self, operator: &ContentOp, state: &mut State) {
        if operator.operator == "\"" {
            state.word_spacing = number(operator, 0).unwrap_or(state.word_spacing);
            state.character_spacing = number(operator, 1).unwrap_or(state.character_spacing);
        }
        if matches!(operator.operator.as_str(), "'" | "\"") {
            state.next_line(0.0, -state.leading);
        }
        match operator.operands.last() {
            Some(PdfValue::Str(bytes)) => self.show(bytes, state),
            Some(PdfValue::Array(parts)) => {
                for part in parts {
                    match part {
                        PdfValue::Str(bytes) => self.show(bytes, state),
                        other => {
                            let back = get_number_from_value(other).unwrap_or_default();
                            let by = -back / 1000.0 * state.size * state.horizontal_scale;
                            state.advance(by);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn show(&mut self, bytes: &[u8], state: &mut State) {
        let run = self.backend.decode_run(self.scope(), &state.font, bytes);
        let text = run.decoded.text;
        // Fonts that do not tell their widths are taken to be of usual width.
        let width = run.glyphs.map_or_else(
            || text.chars().map(|_| state.size * 0.5 + state.character_spacing).sum(),
            |glyphs| {
                let glyph = |glyph: &unpdf::parser::backend::GlyphAdvance| {
                    let word = if glyph.is_word_space { state.word_spacing } else { 0.0 };
                    glyph.width / 1000.0 * state.size + state.character_spacing + word
                };
                glyphs.iter().map(glyph).sum::<f32>()
            },
        );
        let to_page = Matrix::shift(0.0, state.rise).then(state.text).then(state.matrix);
        let start = to_page.apply(0.0, 0.0);
        let end = to_page.apply(width * state.horizontal_scale, 0.0);
        let top = to_page.apply(0.0, state.size);
        let size = (top.0 - start.0).hypot(top.1 - start.1);
        state.advance(width * state.horizontal_scale);
        if !text.is_empty() && [start.0, start.1, end.0, end.1, size].iter().all(|n| n.is_finite())
        {
            self.runs.push(Run { text, start, end, size });
        }
    }
}

/// Applies an operator that sets where and how text is placed.
fn place(operator: &ContentOp, state: &mut State) {
    let number = |index| number(operator, index);
    match operator.operator.as_str() {
        "cm" => state.matrix = matrix(operator).then(state.matrix),
        "BT" => (state.text, state.line) = (Matrix::IDENTITY, Matrix::IDENTITY),
        "Tf" => {
            if let Some(PdfValue::Name(name)) = operator.operands.first() {
                state.font.clone_from(name);
            }
            state.size = number(1).unwrap_or(state.size);
        }
        "Tc" => state.character_spacing = number(0).unwrap_or_default(),
        "Tw" => state.word_spacing = number(0).unwrap_or_default(),
        "Tz" => state.horizontal_scale = number(0).unwrap_or(100.0) / 100.0,
        "TL" => state.leading = number(0).unwrap_or_default(),
        "Ts" => state.rise = number(0).unwrap_or_default(),
        "Td" => state.next_line(number(0).unwrap_or_default(), number(1).unwrap_or_default()),
        "TD" => {
            state.leading = -number(1).unwrap_or_default();
            state.next_line(number(0).unwrap_or_default(), -state.leading);
        }
        "T*" => state.next_line(0.0, -state.leading),
        "Tm" => {
            state.line = matrix(operator);
            state.text = state.line;
        }
        _ => {}
    }
}

fn number(operator: &ContentOp, index: usize) -> Option<f32> {
    operator.operands.get(index).and_then(get_number_from_value)
}

/// The six operands of `cm` and `Tm`; nothing moves if they are not there.
fn matrix(operator: &ContentOp) -> Matrix {
    let numbers: Vec<f32> = operator.operands.iter().filter_map(get_number_from_value).collect();
    numbers.try_into().map_or(Matrix::IDENTITY, Matrix)
}
