//! Submit, status, result, cancel: the product's own routes.

pub mod answers;
pub mod file;

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::answer::{Answer, time};
use super::auth::Caller;
use super::intake::{IDEMPOTENCY_KEY, Intake, Submission};
use super::query::Query;
use super::{ExecutionId, State};
use crate::engine::acceptance::{self, AcceptError};
use crate::engine::deployment::{Admission, Refusal};
use crate::engine::directory::{self, Entry};
use crate::engine::lifecycle::{self, Status};
use crate::engine::live::Progress;
use crate::engine::{CancelError, error_parts};
use crate::error::{ApiError, ApiResult, Code};
use crate::store::committer::CommitError;
use answers::{ResultAnswer, StatusAnswer, Submitted, Urls, files, status_answer, submitted};

/// How long a caller that polls is asked to wait, in seconds.
pub const POLL_SECONDS: u64 = 1;

/// Longest `wait` of a status request, in seconds.
pub const MAX_WAIT: u64 = 55;

/// How long to wait for a change.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct WaitQuery {
    /// Holds the answer until the status changes, for at most so many seconds (≤ 55).
    #[schemars(range(min = 0, max = 55))]
    wait: Option<u64>,
}

/// Submit
/// Stores the submission and runs the deployment's workflow on it. It answers when the submission is durable.
#[api_operation(tag = "executions", operation_id = "submit")]
pub async fn submit(
    state: Data<State>,
    caller: Caller,
    submission: Submission,
) -> ApiResult<Answer<Submitted>> {
    let entry = &caller.0.entry;
    admitted(&state, entry, async |admission| {
        let Accepted { id, timeout, mut progress, stored, is_replay } =
            accept(&state, &caller.0, admission, submission).await?;
        let place = Urls::of(&state, entry, id).status;
        if timeout > 0 && lifecycle::is_terminal(progress.status) {
            match ended(&state, entry, id, &progress).await {
                Err(error) if error.code() == Code::StoreUnavailable => progress = stored,
                answered => {
                    return answered
                        .map(|answer| answer.location(&place).replayed(is_replay))
                        .map_err(|error| error.location(&place).replayed(is_replay));
                }
            }
        }
        let body = submitted(&state, entry, id, &progress).await?;
        let answer = Answer::with_status(StatusCode::ACCEPTED, body);
        Ok(answer.location(&place).retry_after(POLL_SECONDS).replayed(is_replay))
    })
    .await
}

/// The answer to a caller who waited until the end.
async fn ended(
    state: &State,
    entry: &Entry,
    id: Uuid,
    progress: &Progress,
) -> ApiResult<Answer<Submitted>> {
    refuse_failed(state, entry, id, progress).await?;
    Ok(Answer::ok(submitted(state, entry, id, progress).await?))
}

/// Status
/// Where an execution stands, from memory while it runs.
#[api_operation(tag = "executions", operation_id = "status")]
pub async fn status(
    state: Data<State>,
    caller: Caller,
    id: ExecutionId,
    query: Query<WaitQuery>,
) -> ApiResult<Answer<StatusAnswer>> {
    let entry = &caller.0.entry;
    let wait = query.0.wait.unwrap_or_default();
    if wait > MAX_WAIT {
        let detail = format!("from 0 to {MAX_WAIT} seconds");
        return Err(ApiError::at(Code::InvalidValue, "wait", detail));
    }
    let mut progress = state.engine.progress(entry, id.0).await?;
    if wait > 0 {
        let seen = progress.status;
        let changed = move |now: &Progress| now.status != seen;
        if !lifecycle::is_terminal(seen) {
            let limit = Duration::from_secs(wait);
            progress = state.engine.wait(entry, id.0, limit, changed).await?;
        }
    }
    Ok(Answer::ok(status_answer(&state, entry, id.0, &progress)))
}

/// Result
/// The result of an execution that completed. Reading never consumes it.
#[api_operation(tag = "executions", operation_id = "result")]
pub async fn result(
    state: Data<State>,
    caller: Caller,
    id: ExecutionId,
) -> ApiResult<Answer<ResultAnswer>> {
    let entry = &caller.0.entry;
    let progress = state.engine.progress(entry, id.0).await?;
    let mut body = ResultAnswer {
        execution_id: id.0.to_string(),
        status: lifecycle::name(progress.status),
        result: None,
        expires_at: progress.expires_at.map(time),
    };
    if !lifecycle::is_terminal(progress.status) {
        return Ok(Answer::with_status(StatusCode::ACCEPTED, body).retry_after(POLL_SECONDS));
    }
    refuse_failed(&state, entry, id.0, &progress).await?;
    body.result = files(&state, entry, id.0).await?;
    Ok(Answer::ok(body))
}

/// Cancel
/// The execution becomes `STOPPED`; running steps are told and given a grace period. Asking again is the same as asking once.
#[api_operation(tag = "executions", operation_id = "cancel")]
pub async fn cancel(
    state: Data<State>,
    caller: Caller,
    id: ExecutionId,
) -> ApiResult<Answer<StatusAnswer>> {
    let entry = &caller.0.entry;
    let progress = state.engine.cancel(entry.id, id.0).await.map_err(|error| match error {
        CancelError::Ended => ApiError::new(Code::AlreadyEnded),
        CancelError::Store(error) => error.into(),
    })?;
    let body = status_answer(&state, entry, id.0, &progress);
    Ok(Answer::with_status(StatusCode::ACCEPTED, body))
}

/// Runs `work` if the deployment admits a submission. Every answer, refusals
/// included, says what is left of the rate limit.
pub(super) async fn admitted<T>(
    state: &State,
    entry: &Entry,
    work: impl AsyncFnOnce(Admission) -> ApiResult<Answer<T>>,
) -> ApiResult<Answer<T>> {
    let (known, admission) = state.engine.admit(entry).await;
    let answered = match admission {
        Ok(admission) => work(admission).await,
        Err(refusal) => Err(refused(refusal)),
    };
    let rate = match known {
        Some(rate) => Some(rate),
        None => state.engine.rate(entry).await,
    };
    answered.map(|answer| answer.rate(rate)).map_err(|error| error.rate(rate))
}

/// What both families of submit routes have in common: an execution that is
/// stored, and where it stands after the wait the caller asked for.
pub(super) struct Accepted {
    pub(super) id: Uuid,
    pub(super) timeout: i32,
    pub(super) progress: Progress,
    /// Where it stood when it was stored. A store that goes away later must
    /// not turn this into a refusal: the caller would send it again.
    pub(super) stored: Progress,
    pub(super) is_replay: bool,
}

pub(super) async fn accept(
    state: &State,
    caller: &directory::Caller,
    admission: Admission,
    submission: Submission,
) -> ApiResult<Accepted> {
    let Intake { request, documents, timeout, keyed } =
        submission.read(&admission.revision).await?;
    let accepted = state.engine.accept(caller, admission, &request, &documents, keyed).await?;
    let acceptance::Accepted { id, progress: stored, is_replay } = accepted;
    let mut progress = stored.clone();
    if timeout > 0 {
        let limit = Duration::from_secs(timeout.unsigned_abs().into());
        // What was accepted long ago may be gone; its acceptance stands.
        let is_gone = |ended: &Progress| is_replay && refuse_expired(ended).is_err();
        match state.engine.wait(&caller.entry, id, limit, |_| false).await {
            Ok(waited) if !is_gone(&waited) => progress = waited,
            _ => {}
        }
    }
    Ok(Accepted { id, timeout, progress, stored, is_replay })
}

pub(super) fn refused(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Draining => ApiError::new(Code::Draining),
        Refusal::ServerBusy => ApiError::new(Code::ServerBusy),
        Refusal::Inactive => ApiError::new(Code::DeploymentInactive),
        Refusal::RateLimited(wait) => ApiError::new(Code::RateLimited).retry_after(wait),
        Refusal::QueueFull => {
            ApiError::new(Code::QueueFull).retry_after(Duration::from_secs(POLL_SECONDS))
        }
        Refusal::Unavailable => ApiError::new(Code::DeploymentUnavailable),
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        let error = match error {
            AcceptError::Mismatch => {
                let code = Code::IdempotencyMismatch;
                return Self::at(code, IDEMPOTENCY_KEY, code.detail());
            }
            AcceptError::Commit(error) => error,
        };
        match error {
            CommitError::Full => Self::new(Code::ServerBusy),
            CommitError::Running(id) => run_in_progress(id),
            CommitError::Unavailable(text) => {
                tracing::warn!(error = text, "a submission was not stored");
                Self::new(Code::StoreUnavailable)
            }
            _ => {
                tracing::error!(%error, "a submission could not be stored");
                Self::new(Code::Internal)
            }
        }
    }
}

/// Refuses a second run beside the one of this execution.
pub(super) fn run_in_progress(id: Uuid) -> ApiError {
    let detail = format!("Execution {id} gathers the workflow's files; wait for its end.");
    ApiError::with_detail(Code::RunInProgress, detail)
}

/// Refuses what has gone with its result.
///
/// # Errors
/// `result_expired`.
pub(super) fn refuse_expired(progress: &Progress) -> ApiResult<()> {
    match progress.expires_at {
        Some(end) if end <= crate::clock::now() => Err(ApiError::new(Code::ResultExpired)),
        _ => Ok(()),
    }
}

/// Refuses the result of an execution that has none.
async fn refuse_failed(
    state: &State,
    entry: &Entry,
    id: Uuid,
    progress: &Progress,
) -> ApiResult<()> {
    refuse_expired(progress)?;
    match progress.status {
        Status::Stopped => Err(ApiError::new(Code::ExecutionStopped)),
        Status::Error => {
            let text = state.engine.result(entry, id).await?;
            Err(ApiError::all(Code::ExecutionFailed, reasons(text.as_deref(), progress)))
        }
        _ => Ok(()),
    }
}

/// One reason a document, or the one of the execution as a whole.
fn reasons(files: Option<&str>, progress: &Progress) -> Vec<(Option<String>, String)> {
    let files: Vec<serde_json::Value> =
        files.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let of_file = |(index, file): (usize, &serde_json::Value)| {
        let error = file.get("error")?.as_str()?;
        Some((Some(format!("documents[{index}]")), error.to_owned()))
    };
    let found: Vec<_> = files.iter().enumerate().filter_map(of_file).collect();
    if !found.is_empty() {
        return found;
    }
    let detail = progress.error.as_ref().map(|error| error_parts(error).1.to_owned());
    vec![(None, detail.unwrap_or_else(|| Code::ExecutionFailed.detail().to_owned()))]
}
