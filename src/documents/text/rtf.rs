//! RTF: control words and groups are read into paragraphs and tables, which
//! are written as HTML and rendered as such.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::html::{escape, render as render_html};
use super::{Output, Text, charset};
use crate::sandbox::JobError;

pub(super) fn extract(bytes: &[u8], output: Output) -> Result<Text, JobError> {
    Ok(Text::whole(render(bytes, output)?))
}

/// The text of an RTF document.
///
/// # Errors
/// `document_too_large` if its markup is nested too deep.
pub(super) fn render(bytes: &[u8], output: Output) -> Result<String, JobError> {
    let mut reader = Reader { codepage: 1252, ..Reader::default() };
    reader.groups.push(Group { unicode_skip: 1, ..Group::default() });
    let mut tokens = Tokens { rest: bytes };
    while let Some(token) = tokens.next() {
        reader.take(token, &mut tokens);
    }
    render_html(&reader.finish(), output)
}

#[derive(Clone, Copy)]
enum Token<'a> {
    Open,
    Close,
    /// A control word or symbol with its number.
    Control(&'a str, Option<i32>),
    /// A byte of text in the current encoding.
    Byte(u8),
}

struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<Token<'a>> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match first {
            b'{' => Some(Token::Open),
            b'}' => Some(Token::Close),
            b'\r' | b'\n' => self.next_line(),
            b'\\' => Some(self.control()),
            byte => Some(Token::Byte(byte)),
        }
    }

    /// Line ends mean nothing in RTF.
    fn next_line(&mut self) -> Option<Token<'a>> {
        let end = self.rest.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
        self.skip(end.unwrap_or(self.rest.len()));
        self.next()
    }

    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn take_while(&mut self, test: impl Fn(u8) -> bool) -> &'a str {
        let end = self.rest.iter().position(|&byte| !test(byte)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        std::str::from_utf8(taken).unwrap_or_default()
    }

    fn control(&mut self) -> Token<'a> {
        let word = self.take_while(|byte| byte.is_ascii_alphabetic());
        if word.is_empty() {
            return self.symbol();
        }
        let negative = self.rest.first() == Some(&b'-');
        self.skip(usize::from(negative));
        let number = self.take_while(|byte| byte.is_ascii_digit()).parse::<i32>().ok();
        if self.rest.first() == Some(&b' ') {
            self.skip(1);
        }
        Token::Control(word, number.map(|number| if negative { -number } else { number }))
    }

    fn symbol(&mut self) -> Token<'a> {
        let Some((&symbol, rest)) = self.rest.split_first() else { return Token::Close };
        self.rest = rest;
        match symbol {
            b'\'' => {
                let digits = self.rest.get(..2).and_then(|two| std::str::from_utf8(two).ok());
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                self.skip(2);
                Token::Byte(byte.unwrap_or(b'?'))
            }
            b'\\' | b'{' | b'}' => Token::Byte(symbol),
            b'*' => Token::Control("*", None),
            b'~' => Token::Control("~", None),
            b'_' => Token::Control("_", None),
            b'\r' | b'\n' => Token::Control("par", None),
            _ => Token::Control("", None),
        }
    }
}

/// Properties that a group inherits and that end with it.
#[derive(Clone, Default)]
struct Group {
    /// Its text is not shown.
    hidden: bool,
    /// It is the font table, or within it.
    fonts: bool,
    /// The group began with `\*`: unknown words hide it.
    optional: bool,
    /// The font's code page, where it is not the document's.
    codepage: Option<u32>,
    /// Characters that stand in for one `\u`.
    unicode_skip: usize,
}

#[derive(Default)]
struct Reader {
    codepage: u32,
    groups: Vec<Group>,
    /// Code pages by font number.
    fonts: HashMap<i32, u32>,
    /// The font that the font table is about.
    font: i32,
    /// Bytes of text that are not decoded yet: characters may have two.
    bytes: Vec<u8>,
    /// UTF-16 units that are not decoded yet: characters may have two.
    units: Vec<u16>,
    /// Stand-ins that are still to be left out.
    skip: usize,
    /// HTML of the document, of the current row and of the current paragraph.
    html: String,
    row: String,
    paragraph: String,
    in_table: bool,
    in_cell: bool,
    level: Option<i32>,
}

impl Reader {
    fn group(&mut self) -> Group {
        self.groups.last().cloned().unwrap_or_default()
    }

    fn set(&mut self, change: impl FnOnce(&mut Group)) {
        if let Some(group) = self.groups.last_mut() {
            change(group);
        }
    }

    fn take(&mut self, token: Token, tokens: &mut Tokens) {
        match token {
            Token::Byte(byte) => self.byte(byte),
            Token::Open => {
                self.flush();
                let group = Group { optional: false, ..self.group() };
                self.groups.push(group);
            }
            Token::Close => {
                self.flush();
                // The outermost group stays, whatever a broken file closes.
                if self.groups.len() > 1 {
                    self.groups.pop();
                }
            }
            Token::Control("bin", Some(count)) => {
                tokens.skip(usize::try_from(count).unwrap_or_default());
            }
            Token::Control("u", Some(unit)) => self.unicode(unit),
            Token::Control(word, number) => {
                self.flush();
                self.skip = 0;
                self.control(word, number);
            }
        }
    }

    fn byte(&mut self, byte: u8) {
        if self.skip > 0 {
            self.skip -= 1;
        } else if !self.group().hidden {
            self.flush_units();
            self.bytes.push(byte);
        }
    }

    fn unicode(&mut self, unit: i32) {
        let group = self.group();
        self.skip = group.unicode_skip;
        if !group.hidden {
            self.flush_bytes();
            // Units above 32,767 are written as negative numbers.
            self.units.extend(u16::try_from(unit.rem_euclid(65_536)));
        }
    }

    fn control(&mut self, word: &str, number: Option<i32>) {
        let optional = self.group().optional;
        match word {
            "*" => self.set(|group| group.optional = true),
            "ansicpg" => self.codepage = number.and_then(|n| u32::try_from(n).ok()).unwrap_or(1252),
            "mac" => self.codepage = 10000,
            "pc" => self.codepage = 437,
            "pca" => self.codepage = 850,
            "uc" => {
                let count = number.and_then(|count| usize::try_from(count).ok()).unwrap_or(1);
                self.set(|group| group.unicode_skip = count);
            }
            "fonttbl" => self.set(|group| (group.fonts, group.hidden) = (true, true)),
            "f" => self.font(number.unwrap_or_default()),
            "fcharset" => {
                if let Some(codepage) = number.and_then(charset_codepage) {
                    self.fonts.insert(self.font, codepage);
                }
            }
            "shpinst" | "ud" => {}
            _ if optional || is_hidden(word) => self.set(|group| group.hidden = true),
            "v" => self.set(|group| group.hidden = number != Some(0)),
            _ if self.group().hidden => {}
            _ => self.layout(word, number),
        }
    }

    fn font(&mut self, number: i32) {
        self.font = number;
        if !self.group().fonts {
            let codepage = self.fonts.get(&number).copied();
            self.set(|group| group.codepage = codepage);
        }
    }

    fn layout(&mut self, word: &str, number: Option<i32>) {
        match word {
            "par" | "sect" | "page" => self.end_paragraph(),
            "pard" => (self.in_cell, self.level) = (false, None),
            "intbl" => self.in_cell = true,
            "outlinelevel" => self.level = number,
            "cell" | "nestcell" => {
                let cell = std::mem::take(&mut self.paragraph);
                let _ = write!(self.row, "<td>{cell}</td>");
            }
            "row" => self.end_row(),
            "line" | "lbr" => self.paragraph.push_str("<br>"),
            "tab" => self.paragraph.push_str("&emsp;"),
            _ => self.paragraph.push_str(character(word)),
        }
    }

    fn end_paragraph(&mut self) {
        if self.in_cell {
            self.paragraph.push_str("<br>");
            return;
        }
        if self.in_table {
            self.html.push_str("</table>");
            self.in_table = false;
        }
        let text = std::mem::take(&mut self.paragraph);
        let _ = match self.level {
            Some(level @ 0..=5) => write!(self.html, "<h{0}>{text}</h{0}>", level + 1),
            _ => write!(self.html, "<p>{text}</p>"),
        };
    }

    fn end_row(&mut self) {
        if !self.in_table {
            self.html.push_str("<table>");
            self.in_table = true;
        }
        let row = std::mem::take(&mut self.row);
        let _ = write!(self.html, "<tr>{row}</tr>");
        self.in_cell = false;
    }

    fn flush(&mut self) {
        self.flush_bytes();
        self.flush_units();
    }

    fn flush_bytes(&mut self) {
        if !self.bytes.is_empty() {
            let codepage = self.group().codepage.unwrap_or(self.codepage);
            let text = charset::decode_codepage(&std::mem::take(&mut self.bytes), codepage);
            self.paragraph.push_str(&escape(&text));
        }
    }

    fn flush_units(&mut self) {
        let units = std::mem::take(&mut self.units);
        if !units.is_empty() {
            self.paragraph.push_str(&escape(&String::from_utf16_lossy(&units)));
        }
    }

    fn finish(mut self) -> String {
        self.flush();
        if !self.row.is_empty() {
            self.end_row();
        }
        self.in_cell = false;
        self.end_paragraph();
        self.html
    }
}

/// Destinations whose text is not the document's.
fn is_hidden(word: &str) -> bool {
    matches!(
        word,
        "colortbl"
            | "stylesheet"
            | "info"
            | "pict"
            | "nonshppict"
            | "objdata"
            | "fldinst"
            | "filetbl"
            | "listtable"
            | "listoverridetable"
            | "revtbl"
            | "sp"
            | "xe"
            | "tc"
            | "template"
            | "themedata"
            | "datafield"
            | "private"
    )
}

/// The text of a control word that stands for a character.
fn character(word: &str) -> &'static str {
    match word {
        "~" => "\u{a0}",
        "_" => "-",
        "emdash" => "—",
        "endash" => "–",
        "lquote" => "‘",
        "rquote" => "’",
        "ldblquote" => "“",
        "rdblquote" => "”",
        "bullet" => "•",
        "emspace" | "enspace" | "qmspace" => " ",
        _ => "",
    }
}

/// The code page of a font's `\fcharset`; none for the document's own.
fn charset_codepage(charset: i32) -> Option<u32> {
    Some(match charset {
        77 => 10000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    })
}
