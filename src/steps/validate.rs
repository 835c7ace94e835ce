//! `validate`: checks the input against a JSON Schema.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};
use crate::schema::{Schema, Violation};

/// Code of an input that is not valid, or could not be checked.
const FAILED: &str = "validation_failed";

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    schema: Schema,
    on_invalid: OnInvalid,
}

impl StepKind for Validate {
    const NAME: &'static str = "validate";
    const SUMMARY: &'static str = "Checks the input against a JSON Schema.";
    const REFERENCE: Reference = Reference {
        about: "Limits: a schema of 128 KiB with 256 patterns. An error's detail lists up to 10 violations, a report up to 100.",
        output: "The input as it is; with `report` an object.",
        errors: &[(
            "validation_failed",
            "the input breaks the schema, or could not be checked within its limits",
        )],
        example: r#"{"with": {"schema": {"type": "object", "required": ["total"]}, "on_invalid": "report"},
 "input": {"sum": 3},
 "output": {"valid": false, "errors": [{"pointer": "", "keyword": "required", "detail": "\"total\" is a required property"}], "value": {"sum": 3}}}"#,
    };
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        let schema = Schema::compile(params.schema).map_err(|fault| {
            ParamError::at(format!("schema{}", fault.pointer.replace('/', ".")), fault.detail)
        })?;
        Ok(Self { schema, on_invalid: params.on_invalid })
    }
}

#[async_trait]
impl Step for Validate {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let limit = match self.on_invalid {
            OnInvalid::Fail => MAX_IN_DETAIL,
            OnInvalid::Report => MAX_IN_REPORT,
        };
        let (input, sandbox) = (Arc::clone(&context.input), &context.services.sandbox);
        let errors = self
            .schema
            .violations(input, limit, sandbox, &context.cancel)
            .await
            .map_err(|error| StepError::sandbox(FAILED, "the schema", error))?;
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

fn detail(found: &[Violation]) -> String {
    let one = |violation: &Violation| {
        let place = if violation.pointer.is_empty() { "(root)" } else { &violation.pointer };
        format!("{place}: {} ({})", violation.detail, violation.keyword)
    };
    found.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests;
