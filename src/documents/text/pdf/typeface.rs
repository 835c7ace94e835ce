//! Fonts as far as text needs them: what a code means and how wide it is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use hayro_font::hayro_cmap::{self, BfString};
use hayro_font::{CMapResolverFn, Font, FontCache, FontGlyph, FontQuery, FontResolverFn};
use hayro_syntax::object::{Dict, ObjectIdentifier};
use unicode_normalization::UnicodeNormalization;

/// The fonts of a document, each read once.
pub(super) struct Typefaces<'a> {
    cache: FontCache<'a>,
    known: HashMap<ObjectIdentifier, Option<Rc<Typeface<'a>>>>,
    fonts: FontResolverFn,
    maps: CMapResolverFn,
}

impl<'a> Typefaces<'a> {
    pub(super) fn new() -> Self {
        Self {
            cache: FontCache::new(),
            known: HashMap::new(),
            fonts: Arc::new(|query| match query {
                FontQuery::Standard(font) => Some(font.get_font_data()),
                FontQuery::Fallback(font) => Some(font.pick_standard_font().get_font_data()),
            }),
            maps: Arc::new(hayro_cmap::load_embedded),
        }
    }

    /// A font that was read before.
    pub(super) fn known(&self, id: ObjectIdentifier) -> Option<Option<Rc<Typeface<'a>>>> {
        self.known.get(&id).cloned()
    }

    /// The font that `dictionary` describes; none if it cannot be read.
    pub(super) fn get(&mut self, dictionary: &Dict<'a>) -> Option<Rc<Typeface<'a>>> {
        let id = dictionary.obj_id();
        if let Some(known) = id.and_then(|id| self.known.get(&id)) {
            return known.clone();
        }
        let font = self.cache.font(dictionary, &self.fonts, &self.maps);
        let typeface = font.map(|font| Rc::new(Typeface::new(font)));
        if let Some(id) = id {
            self.known.insert(id, typeface.clone());
        }
        typeface
    }
}

/// A font, and what its codes were found to be.
pub(super) struct Typeface<'a> {
    font: Font<'a>,
    horizontal: bool,
    codes: RefCell<HashMap<u32, Rc<Character>>>,
}

/// What a code stands for.
pub(super) struct Character {
    /// None if the font does not tell.
    pub(super) text: Option<String>,
    /// How far it moves on, in thousandths of the font's size: to the right,
    /// or upwards in vertical writing.
    pub(super) advance: f32,
}

impl<'a> Typeface<'a> {
    fn new(font: Font<'a>) -> Self {
        Self { horizontal: font.is_horizontal(), font, codes: RefCell::default() }
    }

    /// Whether it is written from left to right, and not downwards.
    pub(super) fn is_horizontal(&self) -> bool {
        self.horizontal
    }

    /// The code at the start of `bytes`, and how many of them it takes.
    pub(super) fn code(&self, bytes: &[u8]) -> (u32, usize) {
        let (code, length) = self.font.read_code(bytes, 0);
        (code, length.max(1))
    }

    pub(super) fn character(&self, code: u32) -> Rc<Character> {
        if let Some(known) = self.codes.borrow().get(&code) {
            return Rc::clone(known);
        }
        let character = Rc::new(self.look_up(code));
        self.codes.borrow_mut().insert(code, Rc::clone(&character));
        character
    }

    #[expect(clippy::cast_possible_truncation, reason = "widths are small")]
    fn look_up(&self, code: u32) -> Character {
        let text = match self.font.glyph(self.font.map_code(code), code) {
            FontGlyph::Outline(glyph) => glyph.as_unicode(),
            FontGlyph::Type3(glyph) => glyph.as_unicode(),
        };
        let advance = self.font.code_advance(code);
        let advance = if self.horizontal { advance.x } else { advance.y };
        Character { text: text.map(written_out), advance: advance as f32 }
    }
}

/// The text of a character, with ligatures as the letters they are made of and
/// without what is no text.
fn written_out(text: BfString) -> String {
    let keep = |c: &char| !c.is_control() && !('\u{e000}'..='\u{f8ff}').contains(c);
    let spell = |c: char| match c {
        '\u{fb00}'..='\u{fb4f}' => c.nfkc().collect(),
        '\u{a0}' => String::from(" "),
        other => String::from(other),
    };
    match text {
        BfString::Char(c) => std::iter::once(c).filter(keep).map(spell).collect(),
        BfString::String(text) => text.chars().filter(keep).map(spell).collect(),
    }
}
