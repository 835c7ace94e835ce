//! Whether a step runs, and what its end means for the steps after it.

use serde_json::Value;

use super::plan::{Faults, StepDefinition};
use crate::steps::{Condition, StepError};

/// How a step ended for its document.
pub(super) enum Ended {
    /// With an output.
    Gave(Value),
    /// It was passed over: the next step gets what this one got.
    Skipped(Option<StepError>),
    /// It failed, and its document with it.
    Failed(StepError),
}

impl Ended {
    /// What came of running it.
    pub(super) fn of(outcome: Result<Value, StepError>) -> Self {
        outcome.map_or_else(Self::Failed, Self::Gave)
    }

    /// Why it failed.
    pub(super) fn error(&self) -> Option<&StepError> {
        match self {
            Self::Gave(_) => None,
            Self::Skipped(error) => error.as_ref(),
            Self::Failed(error) => Some(error),
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
            Self::Failed(error) => Err(error),
        }
    }
}

/// Compiles a step's condition.
pub(super) fn condition(
    place: &str,
    definition: &StepDefinition,
) -> Result<Option<Condition>, Faults> {
    let compiled = definition.when.as_deref().map(Condition::compile).transpose();
    compiled.map_err(|cure| vec![(format!("{place}.when"), cure)])
}
