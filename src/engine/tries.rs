//! The tries of one step on one document.

use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use serde_json::Value;

use super::plan::PlannedStep;
use super::run::Job;
use crate::faults;
use crate::steps::{StepContext, StepError};

/// Longest pause that an outside system can ask for.
const MAX_WAIT: Duration = Duration::from_secs(300);

/// Runs a step until it succeeds, fails for good, has used its tries up or the
/// execution is stopped.
pub(super) async fn run(
    job: &Job,
    document: usize,
    planned: &PlannedStep,
    mut context: StepContext,
) -> Result<Value, StepError> {
    let retry = planned.retry.as_ref().unwrap_or(&job.revision.settings.retry);
    let mut pauses = retry.pauses();
    loop {
        // One for each try: a try that is out of time is told, the next is not.
        context.cancel = job.cancel.child_token();
        let grace = Duration::from_secs(job.context.config.cancel_grace_seconds);
        let error = match one(planned, &context, grace).await {
            Err(error) if retry.repeats(&error) && !job.cancel.is_cancelled() => error,
            outcome => return outcome,
        };
        let Some(pause) = pauses.next() else { return Err(error) };
        let pause = pause.max(error.retry_after.unwrap_or_default().min(MAX_WAIT));
        tracing::warn!(
            execution_id = %job.claim.execution_id,
            document,
            step = planned.id,
            code = %error.code,
            pause_ms = pause.as_millis(),
            "a step failed and is tried again"
        );
        tokio::select! {
            biased;
            () = job.cancel.cancelled() => return Err(StepError::cancelled()),
            () = tokio::time::sleep(pause) => job.live.events.try_again(document),
        }
    }
}

/// A try that is out of time is told, has the grace of a cancel to tidy up and
/// is dropped then. Whatever it still gives comes too late.
async fn one(
    planned: &PlannedStep,
    context: &StepContext,
    grace: Duration,
) -> Result<Value, StepError> {
    let running = async {
        faults::at(faults::STEP_RUN).await.map_err(|_| StepError::crashed())?;
        planned.step.run(context).await
    };
    // What a panic leaves behind is dropped with the try.
    let running = AssertUnwindSafe(running).catch_unwind();
    let Some(limit) = planned.timeout else { return contained(running.await) };
    let mut running = pin!(running);
    match tokio::time::timeout(limit, &mut running).await {
        Ok(ended) => contained(ended),
        Err(_) => {
            context.cancel.cancel();
            drop(tokio::time::timeout(grace, running).await);
            Err(StepError::timed_out(limit))
        }
    }
}

fn contained(ended: std::thread::Result<Result<Value, StepError>>) -> Result<Value, StepError> {
    ended.unwrap_or_else(|_| Err(StepError::crashed()))
}
