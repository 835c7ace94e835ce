//! Unstract's own form of submit and status, so that its clients work.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::State;
use super::answer::{Answer, Answers};
use super::auth::UnstractCaller;
use super::executions::answers::{self, Submitted};
use super::executions::{self, Accepted, POLL_SECONDS};
use super::intake::Submission;
use super::query::Query;
use crate::engine::error_parts;
use crate::engine::lifecycle::{self, Status};
use crate::error::{ApiError, ApiResult, Code};

/// Which execution.
#[derive(Deserialize, JsonSchema, ApiComponent)]
pub struct StatusQuery {
    /// The execution.
    execution_id: String,
}

/// Unstract's form of a status.
#[derive(Serialize, JsonSchema)]
pub struct UnstractStatus {
    status: &'static str,
    /// The list of files when completed, else a text.
    #[schemars(with = "serde_json::Value")]
    message: Box<RawValue>,
}

impl Answers for UnstractStatus {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(200, "Completed"), (202, "It still runs"), (422, "It failed or was stopped")];
}

/// Submit (Unstract)
/// As `submit`, answered with 200 when stored.
#[api_operation(tag = "unstract", operation_id = "unstract_submit")]
pub async fn submit(
    state: Data<State>,
    caller: UnstractCaller,
    submission: Submission,
) -> ApiResult<Answer<Submitted>> {
    let entry = &caller.0.entry;
    executions::admitted(&state, entry, async |admission| {
        let Accepted { id, progress, .. } =
            executions::accept(&state, &caller.0, admission, submission).await?;
        let body = answers::submitted(&state, entry, id, &progress).await?;
        Ok(Answer::with_status(status_code(progress.status, true), body))
    })
    .await
}

/// Status and result (Unstract)
/// Can be read again and again.
#[api_operation(tag = "unstract", operation_id = "unstract_status")]
pub async fn status(
    state: Data<State>,
    caller: UnstractCaller,
    query: Query<StatusQuery>,
) -> ApiResult<Answer<UnstractStatus>> {
    let entry = &caller.0.entry;
    let id: Uuid = query.0.execution_id.parse().map_err(|_| ApiError::new(Code::NotFound))?;
    let progress = state.engine.progress(entry, id).await?;
    if progress.expires_at.is_some_and(|end| end <= crate::clock::now()) {
        return Err(ApiError::new(Code::ResultExpired));
    }
    let message = match progress.status {
        Status::Completed => answers::files(&state, entry, id).await?,
        _ => None,
    };
    let text = || {
        let detail = progress.error.as_ref().map(|error| error_parts(error).1.to_owned());
        detail.unwrap_or_else(|| lifecycle::name(progress.status).to_owned())
    };
    let message = match message {
        Some(files) => files,
        None => {
            serde_json::value::to_raw_value(&text()).map_err(|_| ApiError::new(Code::Internal))?
        }
    };
    let body = UnstractStatus { status: lifecycle::name(progress.status), message };
    let answer = Answer::with_status(status_code(progress.status, false), body);
    Ok(match progress.status {
        Status::Pending | Status::Executing => answer.retry_after(POLL_SECONDS),
        _ => answer,
    })
}

/// Unstract's clients take 200 as "stored" when they submit, and 202 as "not
/// yet" when they ask.
fn status_code(status: Status, submitting: bool) -> StatusCode {
    match status {
        Status::Completed => StatusCode::OK,
        Status::Pending | Status::Executing if submitting => StatusCode::OK,
        Status::Pending | Status::Executing => StatusCode::ACCEPTED,
        Status::Error | Status::Stopped => StatusCode::UNPROCESSABLE_ENTITY,
    }
}
