//! `validate`: checks the input against a JSON Schema.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{ParamError, Step, StepContext, StepError, StepKind, offload};
use crate::sandbox::{Job, JobError};

/// Code of an input that is not valid, or could not be checked.
const FAILED: &str = "validation_failed";

/// The one dialect that is understood.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Bytes of a schema as JSON.
const MAX_SCHEMA_BYTES: usize = 128 * 1024;

/// Patterns in a schema; with their size this bounds the memory of a schema.
const MAX_PATTERNS: usize = 256;

/// Bytes that one compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;

/// Time for a schema with references.
const TIME_LIMIT: Duration = Duration::from_secs(10);

/// Violations listed in an error's detail.
const MAX_IN_DETAIL: usize = 10;

/// Violations listed in a report.
const MAX_IN_REPORT: usize = 100;

/// Parameters of `validate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A JSON Schema of draft 2020-12. Formats are asserted; references must
    /// stay within the schema; patterns know no look-around.
    schema: Value,
    /// What happens to an input that is not valid.
    #[serde(default)]
    on_invalid: OnInvalid,
}

/// What happens to an input that is not valid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OnInvalid {
    /// The step fails; a valid input is passed on as it is.
    #[default]
    Fail,
    /// The step passes on `{"valid", "errors", "value"}`.
    Report,
}

/// The step kind `validate`.
pub struct Validate {
    checker: Checker,
    on_invalid: OnInvalid,
}

/// Where a schema is evaluated. The time that a schema without references
/// takes is bounded by its size and the input's; references can double the
/// work at each step, so such a schema goes to a child that can be stopped.
enum Checker {
    InProcess(Arc<Validator>),
    Sandboxed(Arc<Value>),
}

impl StepKind for Validate {
    const NAME: &'static str = "validate";
    const SUMMARY: &'static str = "Checks the input against a JSON Schema.";
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        let schema = params.schema;
        let dialect = schema.get("$schema").and_then(Value::as_str).unwrap_or(DIALECT);
        if dialect.trim_end_matches('#') != DIALECT {
            return Err(ParamError::at("schema.$schema", format!("only {DIALECT} is understood")));
        }
        if schema.to_string().len() > MAX_SCHEMA_BYTES {
            let detail = format!("the schema is longer than {MAX_SCHEMA_BYTES} bytes");
            return Err(ParamError::at("schema", detail));
        }
        let mut survey = Survey::default();
        survey.visit(&schema);
        if survey.patterns > MAX_PATTERNS {
            let detail = format!("the schema has more than {MAX_PATTERNS} patterns");
            return Err(ParamError::at("schema", detail));
        }
        let validator = compile(&schema).map_err(|error| {
            let pointer = error.instance_path().as_str();
            ParamError::at(format!("schema{}", pointer.replace('/', ".")), error.to_string())
        })?;
        let checker = match survey.has_references {
            true => Checker::Sandboxed(Arc::new(schema)),
            false => Checker::InProcess(Arc::new(validator)),
        };
        Ok(Self { checker, on_invalid: params.on_invalid })
    }
}

fn compile(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let patterns = PatternOptions::regex().size_limit(MAX_PATTERN_BYTES);
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .offline()
        .should_validate_formats(true)
        .with_pattern_options(patterns)
        .build(schema)
}

/// What a schema holds that decides how it may be used. It counts too much
/// rather than too little: a property may have a keyword's name.
#[derive(Debug, Default)]
struct Survey {
    has_references: bool,
    patterns: usize,
}

impl Survey {
    fn visit(&mut self, schema: &Value) {
        match schema {
            Value::Object(entries) => {
                for (keyword, value) in entries {
                    match keyword.as_str() {
                        "$ref" | "$dynamicRef" => self.has_references = true,
                        "pattern" => self.patterns += 1,
                        "patternProperties" => {
                            self.patterns += value.as_object().map_or(0, Map::len);
                        }
                        _ => {}
                    }
                    self.visit(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.visit(item)),
            _ => {}
        }
    }
}

#[async_trait]
impl Step for Validate {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let limit = match self.on_invalid {
            OnInvalid::Fail => MAX_IN_DETAIL,
            OnInvalid::Report => MAX_IN_REPORT,
        };
        let input = Arc::clone(&context.input);
        let errors = match &self.checker {
            Checker::InProcess(validator) => {
                let validator = Arc::clone(validator);
                offload(move || Ok(violations(&validator, &input, limit))).await?
            }
            Checker::Sandboxed(schema) => {
                let job = FindViolations { schema: Arc::clone(schema), limit };
                let payload = offload(move || Ok(Bytes::from(input.to_string()))).await?;
                let sandbox = &context.services.sandbox;
                sandbox
                    .call(job, payload, TIME_LIMIT, &context.cancel)
                    .await
                    .map_err(|error| StepError::sandbox(FAILED, "the schema", error))?
            }
        };
        let (input, on_invalid) = (Arc::clone(&context.input), self.on_invalid);
        offload(move || conclude(on_invalid, &input, &errors)).await
    }
}

fn conclude(
    on_invalid: OnInvalid,
    input: &Value,
    errors: &[Violation],
) -> Result<Value, StepError> {
    match on_invalid {
        OnInvalid::Fail if errors.is_empty() => Ok(input.clone()),
        OnInvalid::Fail => Err(StepError::permanent(FAILED, detail(errors))),
        OnInvalid::Report => {
            Ok(json!({"valid": errors.is_empty(), "errors": errors, "value": input}))
        }
    }
}

/// Checks the payload, a JSON value, in the child.
#[derive(Debug, Serialize, Deserialize)]
pub struct FindViolations {
    schema: Arc<Value>,
    limit: usize,
}

impl Job for FindViolations {
    const NAME: &'static str = "find_violations";
    type Output = Vec<Violation>;

    fn perform(self, payload: Vec<u8>) -> Result<Vec<Violation>, JobError> {
        let failed = |detail: &str| JobError { code: FAILED.to_owned(), detail: detail.to_owned() };
        let input =
            serde_json::from_slice(&payload).map_err(|_| failed("the input is not JSON"))?;
        let validator = compile(&self.schema).map_err(|_| failed("the schema is not valid"))?;
        Ok(violations(&validator, &input, self.limit))
    }
}

/// One place where the input breaks the schema.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// Where in the input, as a JSON pointer (RFC 6901).
    pointer: String,
    /// The keyword of the schema that is broken.
    keyword: String,
    /// What the schema expects; never the value that was found.
    detail: String,
}

fn violations(validator: &Validator, input: &Value, limit: usize) -> Vec<Violation> {
    let errors = validator.iter_errors(input).take(limit);
    errors
        .map(|error| Violation {
            pointer: error.instance_path().as_str().to_owned(),
            keyword: error.kind().keyword().to_owned(),
            detail: expectation(&error),
        })
        .collect()
}

/// What the schema expects. Names and values that only the input knows are
/// left out, also where the crate's masking would show them.
fn expectation(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            format!("the schema does not allow {} of the properties", unexpected.len())
        }
        ValidationErrorKind::PropertyNames { .. } => "a property's name is not allowed".to_owned(),
        ValidationErrorKind::FromUtf8 { .. } => "the decoded value is not UTF-8".to_owned(),
        ValidationErrorKind::BacktrackLimitExceeded { .. }
        | ValidationErrorKind::RegexEngineFailure { .. }
        | ValidationErrorKind::Custom { .. } => "the value could not be checked".to_owned(),
        _ => error.masked_with("the value").to_string(),
    }
}

fn detail(found: &[Violation]) -> String {
    let one = |violation: &Violation| {
        let place = if violation.pointer.is_empty() { "(root)" } else { &violation.pointer };
        format!("{place}: {} ({})", violation.detail, violation.keyword)
    };
    found.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
