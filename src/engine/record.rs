//! How a step ended, written down before anything follows it.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::run::{Job, STORE_AWAY, put_large, refresh};
use super::walk::{error_value, number};
use crate::steps::StepError;
use crate::store::committer::{CommitError, StepRow, Write};

/// What came of recording.
pub(super) enum Recorded {
    /// It is committed.
    Committed,
    /// It goes into the commit of the execution's end.
    WithEnd(Box<StepRow>),
}

/// Another node owns the execution now, or the execution is about to end.
pub(super) struct Lost;

/// What is stored of an outcome.
struct Stored {
    output: Option<String>,
    output_hash: Option<String>,
    error: Option<StepError>,
}

impl Stored {
    fn failed(error: StepError) -> Self {
        Self { output: None, output_hash: None, error: Some(error) }
    }

    /// Large outputs go to the document store.
    async fn of(job: &Job, outcome: &Result<Value, StepError>) -> Self {
        let value = match outcome {
            Ok(value) => value,
            Err(error) => return Self::failed(error.clone()),
        };
        let text = value.to_string();
        if text.len() <= job.context.config.inline_bytes {
            return Self { output: Some(text), output_hash: None, error: None };
        }
        match put_large(&job.context, text).await {
            Ok(hash) => Self { output: None, output_hash: Some(hash), error: None },
            Err(detail) => Self::failed(StepError::transient("document_store_unavailable", detail)),
        }
    }
}

/// Records how a step ended, before the next one starts. An `outcome` that
/// cannot be stored becomes the failure that is recorded instead.
///
/// The last step of an execution's only document goes into the commit of the
/// end that follows it at once.
pub(super) async fn record(
    job: &Job,
    document: usize,
    step: usize,
    started_at: DateTime<Utc>,
    outcome: &mut Result<Value, StepError>,
) -> Result<Recorded, Lost> {
    let events = &job.live.events;
    let mut stored = Stored::of(job, outcome).await;
    loop {
        let error = stored.error.as_ref().map(error_value);
        let closes = error.is_some() || step + 1 == job.plan.steps.len();
        let end = events.end_step(document, step, closes, error.as_ref()).ok_or(Lost)?;
        if let Some(error) = &stored.error {
            *outcome = Err(error.clone());
        }
        let row = StepRow {
            execution_id: job.claim.execution_id,
            document_index: number(document),
            step_index: number(step),
            step_id: job.plan.steps.get(step).map(|step| step.id.clone()).unwrap_or_default(),
            attempt: job.claim.attempt,
            output: stored.output.take(),
            output_hash: stored.output_hash.take(),
            error: error.as_ref().map(ToString::to_string),
            started_at,
            ended_at: end.at,
            tries: end.tries,
        };
        if closes && job.is_single {
            return Ok(Recorded::WithEnd(Box::new(row)));
        }
        match write(job, row).await {
            Ok(()) => {
                events.settle(document, end.at);
                return Ok(Recorded::Committed);
            }
            Err(CommitError::Refused(_)) if stored.error.is_none() => {
                events.take_back(document);
                let detail = "the step's output could not be stored";
                stored = Stored::failed(StepError::permanent("output_unstorable", detail));
            }
            Err(_) => return Err(Lost),
        }
    }
}

/// Tries until the store is back.
async fn write(job: &Job, row: StepRow) -> Result<(), CommitError> {
    loop {
        let write = Write::Step(job.claim, Box::new(row.clone()));
        let committed = match job.context.committer.enqueue(write).await {
            Ok(done) => done.await.unwrap_or(Err(CommitError::Lost)),
            Err(error) => Err(error),
        };
        match committed {
            Err(CommitError::Unavailable(error)) => {
                tracing::warn!(error, "a step's outcome cannot be written yet");
                tokio::time::sleep(STORE_AWAY).await;
                refresh(&job.context, row.output_hash.as_deref()).await;
            }
            other => return other,
        }
    }
}
