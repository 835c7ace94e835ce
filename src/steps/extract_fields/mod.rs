//! `extract_fields`: from text to typed values, by patterns that are data in
//! the workflow.

mod document;
mod extraction;
mod field;
mod lines;
mod normalize;
pub mod params;
mod pattern;
mod value;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};
use extraction::Extraction;
use params::Params;

/// Text that is searched, in bytes.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// Looks for named values in a text.
///
/// ```json
/// {
///   "locale": "de-DE",
///   "constants": {"currency": "EUR"},
///   "fields": {
///     "invoice_number": {"pattern": "Rechnungsnr\\.\\s+(\\d+)", "required": true},
///     "date": {"pattern": "Datum\\s+(\\S+)", "type": "date"},
///     "total": {"pattern": "Gesamt\\s+([\\d.,]+)", "type": "decimal"}
///   },
///   "lines": {
///     "items": {
///       "start": "^Pos.*$", "end": "^Gesamt",
///       "line": "^(?<name>.+?)\\s+(?<quantity>\\d+)\\s+(?<amount>[\\d.,]+)$",
///       "types": {"quantity": "integer", "amount": "decimal"}
///     }
///   }
/// }
/// ```
///
/// gives, for instance,
///
/// ```json
/// {
///   "currency": "EUR", "invoice_number": "4711", "date": "2026-11-03", "total": 1234.5,
///   "items": [{"name": "Hobelbank", "quantity": 1, "amount": 1234.5}]
/// }
/// ```
///
/// Where invoices of several issuers come to one workflow, each gets its
/// entry in `templates`, recognised by its `match`.
///
/// The input is a string, or an object whose `text` is one, as the output of
/// `extract_text` is; [`Params`] says how patterns for it are written. The
/// output is one object: every constant, field and list of line items under
/// its name, in the order in which they are declared, and nothing else.
/// Decimals are JSON numbers where these hold them exactly and strings where
/// not, dates are `YYYY-MM-DD`, what is not found is null.
///
/// It fails with `field_missing` (a required value is not there),
/// `field_invalid` (a text is not of its type), `no_template_matched`,
/// `lines_uneven` (columns of different lengths), `too_many_lines` (more than
/// 10,000 items) or `text_too_large` (8 MiB). Errors name the value, such as
/// `items[2].price`, and never quote the text.
pub struct ExtractFields {
    extraction: Arc<Extraction>,
}

impl StepKind for ExtractFields {
    const NAME: &'static str = "extract_fields";
    const SUMMARY: &'static str = "Turns text into typed values by named patterns.";
    const REFERENCE: Reference = Reference {
        about: include_str!("about.md"),
        output: "One object: every constant, field and list of line items under its name, and nothing else. What is not found is null.",
        errors: &[
            ("field_missing", "a required value is not there"),
            (
                "field_invalid",
                "a text is not of its type; a number or date that can be read in two ways is refused, never guessed",
            ),
            ("no_template_matched", "templates are given and none fits"),
            ("lines_uneven", "columns have different numbers of matches"),
            ("too_many_lines", "a list has more than 10,000 items"),
            ("text_too_large", "the text has more than 8 MiB"),
        ],
        example: include_str!("example.json"),
    };
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        Ok(Self { extraction: Arc::new(Extraction::compile(params)?) })
    }
}

#[async_trait]
impl Step for ExtractFields {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let extraction = Arc::clone(&self.extraction);
        let input = Arc::clone(&context.input);
        let cancel = context.cancel.clone();
        offload(move || extraction.extract(text_of(&input)?, &cancel)).await
    }
}

/// The text of a step's input.
fn text_of(input: &Value) -> Result<&str, StepError> {
    let text = input.as_str().or_else(|| input.get("text").and_then(Value::as_str));
    let text = text.ok_or_else(|| {
        StepError::bad_input(
            "the input is neither a string nor an object with a string `text`; put `extract_text` \
             before this step or let its `input` point to a text",
        )
    })?;
    if text.len() > MAX_TEXT_BYTES {
        let detail = format!("the text is longer than {MAX_TEXT_BYTES} bytes");
        return Err(StepError::permanent("text_too_large", detail));
    }
    Ok(text)
}
