//! Single values.

use regex::Regex;
use serde_json::Value;

use super::document::{Document, check_count, check_length, invalid, missing};
use super::params::{Field, Occurrence, ValueType};
use super::pattern::{Compiler, given};
use super::value::Conversion;
use crate::steps::{ParamError, StepError};

/// A field, ready to be looked for.
#[derive(Debug)]
pub struct FieldRule {
    /// Its name in the output.
    pub name: String,
    patterns: Vec<Regex>,
    occurrence: Occurrence,
    conversion: Conversion,
    required: bool,
    default: Value,
}

impl FieldRule {
    /// Compiles the field that stands at `path`.
    ///
    /// # Errors
    /// Names the option that cannot be used.
    pub fn compile(
        name: &str,
        field: Field,
        path: &str,
        compiler: &mut Compiler,
    ) -> Result<Self, ParamError> {
        let patterns = match (&field.pattern, field.patterns.is_empty()) {
            (Some(pattern), true) => vec![compiler.pattern(pattern, &format!("{path}.pattern"))?],
            (None, false) => compiler.patterns(&field.patterns, &format!("{path}.patterns"))?,
            _ => return Err(ParamError::at(path, "give either `pattern` or `patterns`")),
        };
        let is_number = matches!(field.kind, ValueType::Decimal | ValueType::Integer);
        if field.occurrence == Occurrence::Sum && !is_number {
            let path = format!("{path}.occurrence");
            return Err(ParamError::at(path, "only `type` decimal or integer has a sum"));
        }
        if field.required && !field.default.is_null() {
            let detail = "a required field is never absent; drop `required` or `default`";
            return Err(ParamError::at(format!("{path}.default"), detail));
        }
        let conversion = Conversion::new(
            field.kind,
            field.locale.as_deref(),
            field.decimal_separator.as_deref(),
            field.formats,
            path,
        )?;
        Ok(Self {
            name: name.to_owned(),
            patterns,
            occurrence: field.occurrence,
            conversion,
            required: field.required,
            default: field.default,
        })
    }

    /// Looks the value up.
    ///
    /// # Errors
    /// `field_missing`, `field_invalid`, `too_many_lines` or `cancelled`.
    pub fn extract(&self, document: &Document<'_>) -> Result<Value, StepError> {
        document.check_cancelled()?;
        for pattern in &self.patterns {
            let found = self.find(pattern, document)?;
            if !found.is_empty() {
                return self.convert(&found, document);
            }
        }
        if self.required { Err(missing(&self.name)) } else { Ok(self.default.clone()) }
    }

    /// The texts that `pattern` gives, no more of them than are asked for.
    fn find<'t>(
        &self,
        pattern: &Regex,
        document: &Document<'t>,
    ) -> Result<Vec<&'t str>, StepError> {
        let mut texts = Vec::new();
        for captures in pattern.captures_iter(document.text) {
            document.check_cancelled()?;
            let Some(text) = given(&captures) else {
                continue;
            };
            match self.occurrence {
                Occurrence::First => return Ok(vec![text]),
                Occurrence::Last => texts.clear(),
                Occurrence::All | Occurrence::Sum => {}
            }
            texts.push(text);
            check_count(&self.name, texts.len())?;
        }
        Ok(texts)
    }

    fn convert(&self, texts: &[&str], document: &Document<'_>) -> Result<Value, StepError> {
        let locale = document.locale;
        let values = || {
            let each = texts.iter().map(|text| {
                check_length(&self.name, text)?;
                let value = self.conversion.value(text, locale);
                value.map_err(|reason| invalid(&self.name, reason))
            });
            each.collect::<Result<Vec<Value>, StepError>>()
        };
        match self.occurrence {
            Occurrence::First | Occurrence::Last => Ok(values()?.pop().unwrap_or_default()),
            Occurrence::All => values().map(Value::from),
            Occurrence::Sum => self
                .conversion
                .sum(texts.iter().copied(), locale)
                .map_err(|reason| invalid(&self.name, reason)),
        }
    }
}
