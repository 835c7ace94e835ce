//! The parameters of `extract_fields`, as a workflow gives them.

use std::fmt;

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Turns text into typed values by named patterns.
///
/// A pattern is a regular expression of Rust's `regex` crate: `^` and `$`
/// match at the ends of lines, letters are matched as they are written unless
/// the pattern begins with `(?i)`, `.` does not match a line break unless it
/// begins with `(?s)`; there is no look-around and no back-reference. In JSON
/// a backslash is written twice.
///
/// Write patterns against the text that `extract_text` gives, not against the
/// look of the document; `millrace text FILE --format layout` prints it. For
/// invoices and forms let `extract_text` have `"format": "layout"`: what
/// stands side by side on the page is then one line, and after `normalize`
/// one space stands between its columns. In its other formats words that
/// stand apart may follow each other, and rows may be joined; `\s+` between
/// words matches a space and a line break alike.
///
/// The output has its names in this order: `constants`, `fields`, `lines`,
/// each as declared here, then those of the template.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Language and region of the documents, such as `de-DE` or `en-IN`, or a
    /// language alone (`nl`). It settles which of `.` and `,` begins the
    /// decimals of `1.234` and which of day and month comes first in
    /// `3/4/2024`, and says whose month names to prefer. A language alone
    /// settles the order of dates only where its regions agree: `en` does not.
    pub locale: Option<String>,
    /// How the text is prepared before any pattern sees it.
    pub normalize: Normalize,
    /// Values that are given as they are, by name. Any JSON.
    pub constants: Map<String, Value>,
    /// Fields that are looked for in every document, by name.
    pub fields: IndexMap<String, Field>,
    /// Repeated line items that are looked for in every document, by name.
    /// Each gives an array of objects.
    pub lines: IndexMap<String, Lines>,
    /// Alternatives, such as one for each issuer. The first that fits the
    /// document is used, together with what is given above; its names go
    /// before the same names above.
    pub templates: Vec<Template>,
    /// What happens if templates are given and none fits: false fails the
    /// step with `no_template_matched`, true goes on with what is given above
    /// alone.
    pub allow_unmatched: bool,
}

/// How the text is prepared. Letters with accents are always composed
/// (Unicode NFC), and every line break becomes a line feed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Normalize {
    /// Every kind of blank (tab, no-break space, thin space) becomes a plain
    /// space, runs of them one, none are left at the start or the end of a
    /// line; invisible characters (soft hyphen, zero-width space) are dropped.
    /// Give false where patterns tell columns by wide gaps (` {2,}`).
    pub blanks: bool,
    /// Marks of Markdown are dropped: emphasis (`*`), heading signs, table
    /// bars and rules, backslash escapes.
    pub markdown: bool,
}

impl Default for Normalize {
    fn default() -> Self {
        Self { blanks: true, markdown: false }
    }
}

/// One alternative, such as the invoices of one issuer.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// What the template is called; for people.
    pub name: String,
    /// Patterns that must all be found for the template to fit.
    #[serde(rename = "match")]
    pub matches: Vec<String>,
    /// Patterns of which none may be found.
    #[serde(default)]
    pub not: Vec<String>,
    /// Locale of these documents; goes before the step's.
    #[serde(default)]
    pub locale: Option<String>,
    /// Values that are given as they are, by name.
    #[serde(default)]
    pub constants: Map<String, Value>,
    /// Fields of these documents, by name.
    #[serde(default)]
    pub fields: IndexMap<String, Field>,
    /// Line items of these documents, by name.
    #[serde(default)]
    pub lines: IndexMap<String, Lines>,
}

/// One value to look for.
///
/// What a match gives is the group named `value`, else its first group that
/// took part, else the whole match; blanks around it are dropped. A match
/// that gives nothing counts as none.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Field {
    /// The pattern. Give this or `patterns`.
    pub pattern: Option<String>,
    /// Patterns in the order in which they are tried; the first that is found
    /// anywhere gives the value.
    pub patterns: Vec<String>,
    /// What the value is.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// Which of several matches gives the value.
    pub occurrence: Occurrence,
    /// Whether the step fails with `field_missing` if no pattern is found.
    /// If false, the value is then `default`.
    pub required: bool,
    /// The value if no pattern is found, as it is; null if not given.
    pub default: Value,
    /// Locale of this value; goes before the template's and the step's.
    pub locale: Option<String>,
    /// `.` or `,`: what begins the decimals, whatever the digits suggest. For
    /// `decimal` and `integer`.
    pub decimal_separator: Option<String>,
    /// For `date`: the only forms that are accepted, in strftime notation
    /// (`%d.%m.%Y`), in the order in which they are tried. `%B` and `%b` read
    /// the months of any known language. Without it dates of all common forms
    /// are recognised.
    pub formats: Vec<String>,
}

/// The type of a value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ValueType {
    /// The text itself.
    #[default]
    String,
    /// A whole number of 64 bits; `1.234` is 1234.
    Integer,
    /// An exact decimal: `1.234,56`, `1,234.56`, `1 234,56`, `1'234.56`,
    /// `1,23,456.78`, `-12`, `12-`, `(12.00)`, with a currency sign or code
    /// beside it. Given as a JSON number if that holds it exactly, else as a
    /// string. `1.234` and `1,234` need a locale or `decimal_separator`.
    Decimal,
    /// A calendar day, given as `YYYY-MM-DD`: numbers or a month's name in any
    /// of many languages. Two digits of a year mean 1969 to 2068. A numeric
    /// date whose day and month are both at most 12 needs a locale or
    /// `formats`, unless it begins with the year or has dots (then the day is
    /// first).
    Date,
}

/// Which of several matches of a pattern gives the value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Occurrence {
    /// The first in the text.
    #[default]
    First,
    /// The last in the text.
    Last,
    /// An array of all.
    All,
    /// The sum of all; for `decimal` and `integer`.
    Sum,
}

/// Repeated line items. One of `line`, `first_line` and `columns` says how an
/// item looks; an item is an object of the named groups in the order in which
/// they are declared, null for a group that took no part.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Lines {
    /// Items are looked for behind the first match of this pattern; without
    /// it, from the start of the text. If it is not found there are no items.
    pub start: Option<String>,
    /// Items are looked for up to the next match of this pattern; without it
    /// or if it is not found, to the end of the text.
    pub end: Option<String>,
    /// Whether every stretch from a `start` to its `end` is searched, as where
    /// a table goes on over several pages, and not only the first. Needs both.
    pub repeat: bool,
    /// Lines in which one of these patterns is found are left out before
    /// items are looked for: page headers, sub-totals.
    pub skip: Vec<String>,
    /// Each match is an item; the named groups `(?<quantity>\d+)` are its
    /// values. It may span several lines (`\n`) and find several on one.
    pub line: Option<String>,
    /// A line in which this pattern is found begins an item; its named groups
    /// are the item's first values.
    pub first_line: Option<String>,
    /// With `first_line`: patterns for the lines after it. The first that is
    /// found in a line adds its named groups to the item; a group that has a
    /// value already gets the new text as another line. Lines in which none
    /// is found are passed over.
    pub continuation: Vec<String>,
    /// For text that was read column by column: a pattern for each value of an
    /// item. The first matches make the first item, the second ones the
    /// second; all must have equally many, or the step fails with
    /// `lines_uneven`. What a match gives is as for a field.
    pub columns: IndexMap<String, String>,
    /// What the values are, by name; `string` for those not given.
    pub types: IndexMap<String, GroupType>,
    /// Whether the step fails with `field_missing` if there are no items.
    pub required: bool,
}

/// The type of a line item's value: a name (`decimal`) or an object with
/// options.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub enum GroupType {
    /// The type alone.
    Name(ValueType),
    /// The type with options.
    Options(GroupOptions),
}

/// The type of a line item's value with its options, as for a field.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroupOptions {
    /// What the value is.
    #[serde(rename = "type")]
    pub kind: ValueType,
    /// Locale of this value.
    pub locale: Option<String>,
    /// `.` or `,`.
    pub decimal_separator: Option<String>,
    /// strftime forms of a date.
    pub formats: Vec<String>,
}

impl From<GroupType> for GroupOptions {
    fn from(group: GroupType) -> Self {
        match group {
            GroupType::Name(kind) => Self { kind, ..Self::default() },
            GroupType::Options(options) => options,
        }
    }
}

/// Written by hand so that an error names the wrong option: serde's untagged
/// enums only say that nothing fits.
impl<'de> Deserialize<'de> for GroupType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrOptions;

        impl<'de> Visitor<'de> for NameOrOptions {
            type Value = GroupType;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a type's name or an object with `type`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<GroupType, E> {
                ValueType::deserialize(StrDeserializer::new(name)).map(GroupType::Name)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<GroupType, A::Error> {
                GroupOptions::deserialize(MapAccessDeserializer::new(map)).map(GroupType::Options)
            }
        }

        deserializer.deserialize_any(NameOrOptions)
    }
}
