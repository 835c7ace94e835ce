//! `jq`: runs a jq filter over the input.

mod json;
mod program;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};
use crate::sandbox::{Job, JobError};

/// Code of every failure of a filter.
const FAILED: &str = "jq_failed";

const DEFAULT_TIMEOUT_SECONDS: u64 = 5;
const MAX_TIMEOUT_SECONDS: u64 = 60;

/// Parameters of `jq`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// A jq filter. `.` is what the step works on, `$context` the whole
    /// context (`input_data`, `parameters`, `steps` and so on). There are no
    /// modules, no environment, no local time and no `input`.
    filter: String,
    /// Seconds that the filter may take; 1 to 60.
    #[serde(default = "default_timeout_seconds")]
    timeout_seconds: u64,
    /// Which of the filter's outputs the step gives.
    #[serde(default)]
    outputs: Outputs,
}

/// Which of the filter's outputs the step gives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Outputs {
    /// The first, or null if there is none; later ones are not computed.
    #[default]
    First,
    /// All, as an array.
    All,
}

const fn default_timeout_seconds() -> u64 {
    DEFAULT_TIMEOUT_SECONDS
}

/// The step kind `jq`.
pub struct Jq {
    job: EvaluateJq,
    limit: Duration,
}

impl StepKind for Jq {
    const NAME: &'static str = "jq";
    const SUMMARY: &'static str = "Runs a jq filter over the input.";
    const REFERENCE: Reference = Reference {
        about: "[jq](https://jqlang.org/manual/)'s language, as the crate `jaq` has it.",
        output: "What the filter gives.",
        errors: &[(
            "jq_failed",
            "the filter fails on this input, takes too long or needs too much memory",
        )],
        example: r#"{"with": {"filter": "{total: (.items | map(.price * .quantity) | add)}"},
 "input": {"items": [{"price": 2.5, "quantity": 4}, {"price": 1, "quantity": 3}]},
 "output": {"total": 13.0}}"#,
    };
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        if !(1..=MAX_TIMEOUT_SECONDS).contains(&params.timeout_seconds) {
            let detail = format!("must be 1 to {MAX_TIMEOUT_SECONDS}");
            return Err(ParamError::at("timeout_seconds", detail));
        }
        program::check(&params.filter).map_err(|detail| ParamError::at("filter", detail))?;
        Ok(Self {
            job: EvaluateJq { filter: params.filter, outputs: params.outputs },
            limit: Duration::from_secs(params.timeout_seconds),
        })
    }
}

#[async_trait]
impl Step for Jq {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let payload = Payload { input: context.input.clone(), context: context.data.clone() };
        let payload = offload(move || match serde_json::to_vec(&payload) {
            Ok(bytes) => Ok(Bytes::from(bytes)),
            Err(_) => Err(StepError::bad_input("the input cannot be written as JSON")),
        })
        .await?;
        let sandbox = &context.services.sandbox;
        sandbox
            .call(self.job.clone(), payload, self.limit, &context.cancel)
            .await
            .map_err(|error| StepError::sandbox(FAILED, "the filter", error))
    }
}

/// What a filter works on, as it goes to the child.
#[derive(Serialize)]
struct Payload {
    input: std::sync::Arc<Value>,
    context: std::sync::Arc<Value>,
}

/// Evaluates a filter, in the child: it may loop for ever or eat memory.
///
/// The payload is `{"input": …, "context": …}`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EvaluateJq {
    filter: String,
    outputs: Outputs,
}

impl Job for EvaluateJq {
    const NAME: &'static str = "evaluate_jq";
    type Output = Value;

    fn perform(self, payload: Vec<u8>) -> Result<Value, JobError> {
        let failed = |detail| JobError { code: FAILED.to_owned(), detail };
        match self.outputs {
            Outputs::First => {
                let first = program::evaluate(&self.filter, &payload, 1).map_err(failed)?;
                Ok(first.into_iter().next().unwrap_or(Value::Null))
            }
            Outputs::All => {
                let all = program::evaluate(&self.filter, &payload, usize::MAX).map_err(failed)?;
                Ok(Value::Array(all))
            }
        }
    }
}

#[cfg(test)]
mod tests;
