//! How a step ended, written down before anything follows it.

use chrono::{DateTime, Utc};

use super::events::StepOutcome;
use super::flow::{Ended, OnError, error_output};
use super::run::{Job, STORE_AWAY, put_large, refresh};
use super::walk::{error_value, number};
use crate::steps::StepError;
use crate::store::committer::{CommitError, StepRow, Write};
use crate::store::records::{Given, PASSED_OVER};

/// What came of recording.
pub(super) enum Recorded {
    /// It is committed.
    Committed,
    /// It goes into the commit of the execution's end.
    WithEnd(Box<StepRow>),
}

/// Another node owns the execution now, or the execution is about to end.
pub(super) struct Lost;

/// What a row keeps of what a step gave.
struct Stored {
    given: Given,
    output: Option<String>,
    output_hash: Option<String>,
}

impl Stored {
    fn inline(given: Given, output: Option<String>) -> Self {
        Self { given, output, output_hash: None }
    }

    /// Large outputs go to the document store.
    ///
    /// # Errors
    /// If that refuses.
    async fn of(job: &Job, ended: &Ended) -> Result<Self, StepError> {
        let value = match ended {
            Ended::Gave(value) => value,
            Ended::Skipped(_) => {
                return Ok(Self::inline(Given::Unchanged, Some(PASSED_OVER.into())));
            }
            Ended::Continued(error) => {
                return Ok(Self::inline(Given::Output, Some(error_output(error).to_string())));
            }
            Ended::Failed(_) => return Ok(Self::inline(Given::Nothing, None)),
        };
        let text = value.to_string();
        if text.len() <= job.context.config.inline_bytes {
            return Ok(Self::inline(Given::Output, Some(text)));
        }
        match put_large(&job.context, text).await {
            Ok(hash) => Ok(Self { given: Given::Output, output: None, output_hash: Some(hash) }),
            Err(detail) => Err(StepError::transient("document_store_unavailable", detail)),
        }
    }
}

/// Records how a step ended, before the next one starts; returns it with what
/// came of recording. An output that cannot be stored is a failure, which is
/// recorded instead.
///
/// The last step of an execution's only document goes into the commit of the
/// end that follows it at once.
pub(super) async fn record(
    job: &Job,
    document: usize,
    step: usize,
    started_at: DateTime<Utc>,
    mut ended: Ended,
) -> Result<(Ended, Recorded), Lost> {
    let events = &job.live.events;
    let on_error = job.plan.steps.get(step).map_or(OnError::Fail, |step| step.on_error);
    loop {
        let mut stored = match Stored::of(job, &ended).await {
            Ok(stored) => stored,
            Err(error) => {
                ended = Ended::failed(error, on_error);
                continue;
            }
        };
        let error = ended.error().map(error_value);
        let is_last = step + 1 == job.plan.steps.len();
        let outcome = StepOutcome { given: stored.given, error: error.as_ref(), is_last };
        let closes = outcome.document().is_some();
        let end = events.end_step(document, step, outcome).ok_or(Lost)?;
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
            return Ok((ended, Recorded::WithEnd(Box::new(row))));
        }
        match write(job, row).await {
            Ok(()) => {
                events.settle(document, end.at);
                return Ok((ended, Recorded::Committed));
            }
            Err(CommitError::Refused(_)) if error.is_none() => {
                events.take_back(document);
                let detail = "the step's output could not be stored";
                let error = StepError::permanent("output_unstorable", detail);
                ended = Ended::failed(error, on_error);
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
