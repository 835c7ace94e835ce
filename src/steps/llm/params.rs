//! Parameters of `llm`.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::llm::settings::MAX_TOKENS;
use crate::steps::ParamError;

/// Seconds that one call may be given.
const MAX_TIMEOUT: u32 = 3600;

/// Repairs that may be asked for.
const MAX_REPAIRS: u32 = 10;

/// Parameters of `llm`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of a connection of kind `llm`.
    pub(super) connection: String,
    /// What is asked: a template, as in the step `template`. Beside what that
    /// sees, `text` is the text that `text` selects.
    pub(super) prompt: String,
    /// What holds for all that is asked, a template too.
    #[serde(default)]
    pub(super) system: Option<String>,
    /// JSON Schema of the answer, as in the step `validate`. Without it the
    /// answer is text.
    #[serde(default)]
    pub(super) schema: Option<Value>,
    /// JSON pointer into the input: the text that the prompt speaks of as
    /// `{{ text }}`. Absent: the input if it is a string, or its `text`, as in
    /// the output of `extract_text`.
    #[serde(default)]
    pub(super) text: Option<String>,
    /// From 0 (the likeliest words) to 2. Absent: the model's own; some models
    /// take no other.
    #[serde(default)]
    #[schemars(range(min = 0, max = 2))]
    pub(super) temperature: Option<f64>,
    /// Tokens of one answer. Absent: as the connection says, else 4096.
    #[serde(default)]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub(super) max_output_tokens: Option<u32>,
    /// Time for one call, 1 to 3600.
    #[serde(default = "timeout_seconds")]
    #[schemars(range(min = 1, max = 3600))]
    pub(super) timeout_seconds: u32,
    /// How often an answer that is not valid under the schema is asked for
    /// again, 0 to 10. The model is shown its answer and what is wrong with it.
    #[serde(default = "max_repairs")]
    #[schemars(range(max = 10))]
    pub(super) max_repairs: u32,
}

fn timeout_seconds() -> u32 {
    120
}

fn max_repairs() -> u32 {
    2
}

impl Params {
    /// What their types alone do not say.
    pub(super) fn check(&self) -> Result<(), ParamError> {
        if self.text.as_ref().is_some_and(|text| !text.is_empty() && !text.starts_with('/')) {
            return Err(ParamError::at("text", "a JSON pointer, such as /text, or empty"));
        }
        if self.temperature.is_some_and(|value| !(0.0..=2.0).contains(&value)) {
            return Err(ParamError::at("temperature", "0 to 2"));
        }
        if self.max_output_tokens.is_some_and(|value| !(1..=MAX_TOKENS).contains(&value)) {
            return Err(ParamError::at("max_output_tokens", format!("1 to {MAX_TOKENS}")));
        }
        if !(1..=MAX_TIMEOUT).contains(&self.timeout_seconds) {
            return Err(ParamError::at("timeout_seconds", format!("1 to {MAX_TIMEOUT}")));
        }
        if self.max_repairs > MAX_REPAIRS {
            return Err(ParamError::at("max_repairs", format!("at most {MAX_REPAIRS}")));
        }
        Ok(())
    }
}
