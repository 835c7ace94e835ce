//! Whether a step runs, and what its end means for the steps after it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::plan::{Faults, StepDefinition};
use super::walk::error_value;
use crate::steps::{Condition, StepError};

/// What the failure of a step means for its document, once its tries are used
/// up. A cancel and the end of the execution's time are no failures of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The document fails.
    #[default]
    Fail,
    /// The step is passed over: the next one gets what this one got.
    Skip,
    /// The document goes on; the step's output is `{"error": {"code", "detail"}}`.
    Continue,
}

impl OnError {
    /// Whether it is what holds if nothing is said.
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// How a step ended for its document.
pub(super) enum Ended {
    /// With an output.
    Gave(Value),
    /// It was passed over: the next step gets what this one got.
    Skipped(Option<StepError>),
    /// It failed, and its document went on with the error for an output.
    Continued(StepError),
    /// It failed, and its document with it.
    Failed(StepError),
}

impl Ended {
    /// What came of running it.
    pub(super) fn of(outcome: Result<Value, StepError>, on_error: OnError) -> Self {
        outcome.map_or_else(|error| Self::failed(error, on_error), Self::Gave)
    }

    /// It failed.
    pub(super) fn failed(error: StepError, on_error: OnError) -> Self {
        match on_error {
            _ if error.code == StepError::cancelled().code => Self::Failed(error),
            OnError::Fail => Self::Failed(error),
            OnError::Skip => Self::Skipped(Some(error)),
            OnError::Continue => Self::Continued(error),
        }
    }

    /// Why it failed.
    pub(super) fn error(&self) -> Option<&StepError> {
        match self {
            Self::Gave(_) => None,
            Self::Skipped(error) => error.as_ref(),
            Self::Continued(error) | Self::Failed(error) => Some(error),
        }
    }

    /// The output, none if it was passed over.
    ///
    /// # Errors
    /// If its document failed with it.
    pub(super) fn into_output(self) -> Result<Option<Value>, StepError> {
        match self {
            Self::Gave(output) => Ok(Some(output)),
            Self::Skipped(_) => Ok(None),
            Self::Continued(error) => Ok(Some(error_output(&error))),
            Self::Failed(error) => Err(error),
        }
    }
}

/// What stands for the output of what failed where its document goes on.
pub(super) fn error_output(error: &StepError) -> Value {
    json!({"error": error_value(error)})
}

/// Compiles a step's condition.
pub(super) fn condition(
    place: &str,
    definition: &StepDefinition,
) -> Result<Option<Condition>, Faults> {
    let compiled = definition.when.as_deref().map(Condition::compile).transpose();
    compiled.map_err(|cure| vec![(format!("{place}.when"), cure)])
}
