//! Steps: what a workflow is made of.
//!
//! A step kind is one file: its parameters, its code, its tests. It is
//! registered by one line in [`KINDS`].

pub mod asking;
pub mod chunks;
pub mod context;
pub mod error;
pub mod extract_fields;
pub mod extract_text;
pub mod http;
pub mod jq;
pub mod llm;
pub mod load_sql;
pub mod meter;
pub mod reference;
pub mod registry;
mod rendering;
pub mod split;
pub mod template;
#[cfg(test)]
mod testing;
pub mod validate;
pub mod write_object;

pub use context::{DocumentRef, Services, SourceFile, StepContext, StepScope};
pub use error::{ParamError, StepError};
pub use reference::Reference;
pub use registry::{KINDS, Kind, build, kind};
pub use rendering::Condition;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::connections;

/// A step that is built and checked, ready to run any number of times.
///
/// Steps are idempotent, or use [`StepScope::stable_id`] to make their effect
/// happen once: after a crash a step whose output was not recorded runs again.
#[async_trait]
pub trait Step: Send + Sync {
    /// Runs the step on [`StepContext::input`] and returns its output.
    ///
    /// It is polled on a runtime of its own, never on an arbiter, but CPU work
    /// of more than a millisecond still goes through [`offload`]. It stops
    /// soon after [`StepContext::cancel`] is cancelled.
    ///
    /// # Errors
    /// A [`StepError`] says what the caller may know and whether a retry can
    /// help.
    async fn run(&self, context: &StepContext) -> Result<Value, StepError>;
}

/// A kind of step: its name, its parameters and how they become a [`Step`].
pub trait StepKind: Step + Sized + 'static {
    /// The name that a workflow's `uses` gives.
    const NAME: &'static str;
    /// One sentence for the documentation.
    const SUMMARY: &'static str;
    /// The kind of the connection that its parameter `connection` names, if
    /// it has one.
    const CONNECTION: Option<connections::Kind> = None;
    /// What the documentation says of it besides.
    const REFERENCE: Reference;
    /// The form of `with`, told to users by its comments. Unknown fields are refused
    /// (`#[serde(deny_unknown_fields)]`).
    type Params: DeserializeOwned + JsonSchema;

    /// Checks the parameters as a whole and builds the step: patterns,
    /// schemas and templates are compiled here, once.
    ///
    /// # Errors
    /// A [`ParamError`] names the place below `with` and the cure.
    fn build(params: Self::Params) -> Result<Self, ParamError>;
}

/// Runs CPU work off the asynchronous threads and contains its panics.
///
/// # Errors
/// `step_crashed` if the work panicked; else what the work returned.
pub async fn offload<T, F>(work: F) -> Result<T, StepError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StepError> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(StepError::crashed()),
    }
}
