//! Repeated line items.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};
use regex::{Captures, Regex};
use serde_json::{Map, Value};

use super::document::{Document, check_count, check_length, invalid, missing};
use super::params::{GroupOptions, GroupType, Lines};
use super::pattern::{Compiler, given};
use super::value::Conversion;
use crate::steps::{ParamError, StepError};

/// Line items, ready to be looked for.
#[derive(Debug)]
pub struct LinesRule {
    /// Their name in the output.
    pub name: String,
    start: Option<Regex>,
    end: Option<Regex>,
    repeat: bool,
    skip: Vec<Regex>,
    shape: Shape,
    /// Every value of an item with its type, as declared.
    values: IndexMap<String, Conversion>,
    required: bool,
}

/// How an item looks.
#[derive(Debug)]
enum Shape {
    Matches(Regex),
    Continued { first: Regex, continuation: Vec<Regex> },
    Columns(IndexMap<String, Regex>),
}

/// The texts of one item, by name.
type Item = HashMap<String, String>;

impl LinesRule {
    /// Compiles the line items that stand at `path`.
    ///
    /// # Errors
    /// Names the option that cannot be used.
    pub fn compile(
        name: &str,
        lines: Lines,
        path: &str,
        compiler: &mut Compiler,
    ) -> Result<Self, ParamError> {
        if lines.repeat && (lines.start.is_none() || lines.end.is_none()) {
            return Err(ParamError::at(format!("{path}.repeat"), "needs `start` and `end`"));
        }
        let shape = Shape::compile(&lines, path, compiler)?;
        let names = shape.names();
        if names.is_empty() {
            let detail = "name the groups that make an item, such as `(?<amount>[\\d.,]+)`";
            return Err(ParamError::at(path, detail));
        }
        Ok(Self {
            name: name.to_owned(),
            start: compiler.optional(lines.start.as_deref(), &format!("{path}.start"))?,
            end: compiler.optional(lines.end.as_deref(), &format!("{path}.end"))?,
            repeat: lines.repeat,
            skip: compiler.patterns(&lines.skip, &format!("{path}.skip"))?,
            shape,
            values: conversions(names, lines.types, path)?,
            required: lines.required,
        })
    }

    /// Looks the items up: an array of objects.
    ///
    /// # Errors
    /// `field_missing`, `field_invalid`, `lines_uneven`, `too_many_lines` or
    /// `cancelled`.
    pub fn extract(&self, document: &Document<'_>) -> Result<Value, StepError> {
        document.check_cancelled()?;
        let region = self.without_skipped(&self.region(document)?);
        let items = match &self.shape {
            Shape::Matches(line) => self.matches(line, &region, document)?,
            Shape::Continued { first, continuation } => {
                self.continued(first, continuation, &region, document)?
            }
            Shape::Columns(columns) => self.columns(columns, &region, document)?,
        };
        if items.is_empty() && self.required {
            return Err(missing(&self.name));
        }
        let numbered = items.iter().enumerate();
        numbered.map(|(index, item)| self.convert(index, item, document)).collect()
    }

    /// The stretches from `start` to `end`, one after another.
    fn region(&self, document: &Document<'_>) -> Result<String, StepError> {
        let mut region = String::new();
        let mut rest = document.text;
        loop {
            document.check_cancelled()?;
            let begin = match &self.start {
                Some(start) => start.find(rest).map(|found| found.end()),
                None => Some(0),
            };
            let Some(inside) = begin.and_then(|begin| rest.get(begin..)) else {
                return Ok(region);
            };
            let end = self.end.as_ref().and_then(|end| end.find(inside));
            let stretch = end.map_or(inside, |end| inside.get(..end.start()).unwrap_or(inside));
            region.push_str(stretch);
            // The last line of one page and the first of the next stay two.
            region.push('\n');
            match end.and_then(|end| inside.get(end.end()..)) {
                Some(behind) if self.repeat && behind.len() < rest.len() => rest = behind,
                _ => return Ok(region),
            }
        }
    }

    fn without_skipped(&self, region: &str) -> String {
        if self.skip.is_empty() {
            return region.to_owned();
        }
        let kept = region.lines().filter(|line| !self.skip.iter().any(|skip| skip.is_match(line)));
        kept.collect::<Vec<_>>().join("\n")
    }

    fn matches(
        &self,
        line: &Regex,
        region: &str,
        document: &Document<'_>,
    ) -> Result<Vec<Item>, StepError> {
        let mut items = Vec::new();
        for captures in line.captures_iter(region) {
            document.check_cancelled()?;
            let item = named_groups(line, &captures);
            if !item.is_empty() {
                items.push(item);
                check_count(&self.name, items.len())?;
            }
        }
        Ok(items)
    }

    fn continued(
        &self,
        first: &Regex,
        continuation: &[Regex],
        region: &str,
        document: &Document<'_>,
    ) -> Result<Vec<Item>, StepError> {
        let mut items: Vec<Item> = Vec::new();
        for line in region.lines() {
            document.check_cancelled()?;
            if let Some(captures) = first.captures(line) {
                items.push(named_groups(first, &captures));
                check_count(&self.name, items.len())?;
            } else if let Some(item) = items.last_mut() {
                let added = continuation.iter().find_map(|pattern| {
                    pattern.captures(line).map(|captures| named_groups(pattern, &captures))
                });
                for (name, text) in added.into_iter().flatten() {
                    let value = item.entry(name).or_default();
                    if !value.is_empty() {
                        value.push('\n');
                    }
                    value.push_str(&text);
                }
            }
        }
        Ok(items)
    }

    fn columns(
        &self,
        columns: &IndexMap<String, Regex>,
        region: &str,
        document: &Document<'_>,
    ) -> Result<Vec<Item>, StepError> {
        let mut items: Vec<Item> = Vec::new();
        let mut counts = IndexMap::new();
        for (name, pattern) in columns {
            let mut count = 0;
            for captures in pattern.captures_iter(region) {
                document.check_cancelled()?;
                let Some(text) = given(&captures) else {
                    continue;
                };
                if items.len() == count {
                    items.push(Item::new());
                }
                if let Some(item) = items.get_mut(count) {
                    item.insert(name.clone(), text.to_owned());
                }
                count += 1;
                check_count(&self.name, count)?;
            }
            counts.insert(name, count);
        }
        if counts.values().any(|count| *count != items.len()) {
            let counts: Vec<String> =
                counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let detail = format!(
                "the columns of `{}` were not found equally often: {}",
                self.name,
                counts.join(", ")
            );
            return Err(StepError::permanent("lines_uneven", detail));
        }
        Ok(items)
    }

    fn convert(
        &self,
        index: usize,
        item: &Item,
        document: &Document<'_>,
    ) -> Result<Value, StepError> {
        let mut object = Map::new();
        for (name, conversion) in &self.values {
            let value = match item.get(name) {
                None => Value::Null,
                Some(text) => {
                    let place = format!("{}[{index}].{name}", self.name);
                    check_length(&place, text)?;
                    let value = conversion.value(text, document.locale);
                    value.map_err(|reason| invalid(&place, reason))?
                }
            };
            object.insert(name.clone(), value);
        }
        Ok(Value::Object(object))
    }
}

impl Shape {
    fn compile(lines: &Lines, path: &str, compiler: &mut Compiler) -> Result<Self, ParamError> {
        match (&lines.line, &lines.first_line, lines.columns.is_empty()) {
            (Some(line), None, true) if lines.continuation.is_empty() => {
                compiler.pattern(line, &format!("{path}.line")).map(Self::Matches)
            }
            (None, Some(first), true) => Ok(Self::Continued {
                first: compiler.pattern(first, &format!("{path}.first_line"))?,
                continuation: compiler
                    .patterns(&lines.continuation, &format!("{path}.continuation"))?,
            }),
            (None, None, false) if lines.continuation.is_empty() => {
                let columns = lines.columns.iter().map(|(name, pattern)| {
                    let path = format!("{path}.columns.{name}");
                    Ok((name.clone(), compiler.pattern(pattern, &path)?))
                });
                columns.collect::<Result<_, _>>().map(Self::Columns)
            }
            _ => {
                let detail = "give one of `line`, `first_line` (with `continuation`) and `columns`";
                Err(ParamError::at(path, detail))
            }
        }
    }

    /// The names of an item's values, as declared.
    fn names(&self) -> IndexSet<String> {
        let groups =
            |regex: &Regex| regex.capture_names().flatten().map(str::to_owned).collect::<Vec<_>>();
        match self {
            Self::Matches(line) => groups(line).into_iter().collect(),
            Self::Continued { first, continuation } => {
                std::iter::once(first).chain(continuation).flat_map(groups).collect()
            }
            Self::Columns(columns) => columns.keys().cloned().collect(),
        }
    }
}

fn conversions(
    names: IndexSet<String>,
    mut types: IndexMap<String, GroupType>,
    path: &str,
) -> Result<IndexMap<String, Conversion>, ParamError> {
    let mut conversions = IndexMap::new();
    for name in names {
        let path = format!("{path}.types.{name}");
        let options = types.shift_remove(&name).map(GroupOptions::from).unwrap_or_default();
        let conversion = Conversion::new(
            options.kind,
            options.locale.as_deref(),
            options.decimal_separator.as_deref(),
            options.formats,
            &path,
        )?;
        conversions.insert(name, conversion);
    }
    match types.into_keys().next() {
        Some(name) => {
            Err(ParamError::at(format!("{path}.types.{name}"), "no group or column has this name"))
        }
        None => Ok(conversions),
    }
}

/// The named groups that hold more than blanks.
fn named_groups(regex: &Regex, captures: &Captures<'_>) -> Item {
    let found = regex.capture_names().flatten().filter_map(|name| {
        let text = captures.name(name)?.as_str().trim();
        (!text.is_empty()).then(|| (name.to_owned(), text.to_owned()))
    });
    found.collect()
}
