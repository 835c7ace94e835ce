//! Unstract's own form of submit and status, so that its clients work.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::State;
use super::answer::{Answer, Answers, Field, Reply};
use super::auth::UnstractCaller;
use super::body::off_thread;
use super::executions::answers::{self, Submitted};
use super::executions::file::StatusMessage;
use super::executions::{self, Accepted, POLL_SECONDS};
use super::intake::Submission;
use super::query::Query;
use crate::engine::directory::Entry;
use crate::engine::error_parts;
use crate::engine::lifecycle::{self, Status};
use crate::error::{ApiError, ApiResult, Code};

/// Which execution, and what is wanted of its result.
#[derive(Deserialize, JsonSchema, ApiComponent)]
pub struct StatusQuery {
    /// The execution.
    execution_id: String,
    /// Whether each result brings its metadata, as if the submission had asked for it.
    #[serde(default)]
    #[schemars(with = "bool")]
    include_metadata: Flag,
    /// Taken for the sake of Unstract's clients: the submission decides.
    #[serde(default, rename = "include_metrics")]
    #[schemars(with = "bool")]
    _include_metrics: Flag,
    /// Taken for the sake of Unstract's clients: the submission decides.
    #[serde(default, rename = "include_extracted_text")]
    #[schemars(with = "bool")]
    _include_extracted_text: Flag,
}

/// A boolean as Python writes it, too.
#[derive(Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum Flag {
    #[serde(rename = "true", alias = "True", alias = "1")]
    Yes,
    #[default]
    #[serde(rename = "false", alias = "False", alias = "0")]
    No,
}

/// Unstract's form of a status.
#[derive(Serialize, JsonSchema)]
pub struct UnstractStatus {
    status: &'static str,
    /// The list of files when completed, else a text.
    #[schemars(with = "StatusMessage")]
    message: Box<RawValue>,
}

impl Answers for UnstractStatus {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(200, "Completed"), (202, "It still runs"), (422, "It failed or was stopped")];
    const HEADERS: &'static [Field] = &[Field::RetryAfter];
}

/// The answer to a submission in Unstract's form of the route.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub struct UnstractSubmitted(Submitted);

impl Answers for UnstractSubmitted {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (200, "Stored and, if the caller waited, perhaps completed"),
        (422, "Stored; the caller waited, and it failed or was stopped"),
    ];
    const HEADERS: &'static [Field] =
        &[Field::IdempotentReplayed, Field::RateLimit, Field::RateRemaining, Field::RateReset];
}

/// Submit (Unstract)
/// As `submit`, answered with 200 when stored.
#[api_operation(tag = "unstract", operation_id = "unstract_submit")]
pub async fn submit(
    state: Data<State>,
    caller: UnstractCaller,
    submission: Submission,
) -> Reply<UnstractSubmitted> {
    let entry = &caller.0.entry;
    let answered = executions::admitted(&state, entry, async |admission| {
        let Accepted { id, mut progress, stored, is_replay, .. } =
            executions::accept(&state, &caller.0, admission, submission).await?;
        let body = match answers::submitted(&state, entry, id, &progress).await {
            Err(error) if error.code() == Code::StoreUnavailable => {
                progress = stored;
                answers::submitted(&state, entry, id, &progress).await?
            }
            submitted => submitted?,
        };
        let status = status_code(progress.status, true);
        Ok(Answer::with_status(status, UnstractSubmitted(body)).replayed(is_replay))
    });
    Reply(answered.await)
}

/// Status and result (Unstract)
/// Can be read again and again.
#[api_operation(tag = "unstract", operation_id = "unstract_status")]
pub async fn status(
    state: Data<State>,
    caller: UnstractCaller,
    query: Query<StatusQuery>,
) -> Reply<UnstractStatus> {
    Reply(answer(&state, &caller.0.entry, query.0).await)
}

async fn answer(
    state: &State,
    entry: &Entry,
    query: StatusQuery,
) -> ApiResult<Answer<UnstractStatus>> {
    let id: Uuid = query.execution_id.parse().map_err(|_| ApiError::new(Code::NotFound))?;
    let progress = state.engine.progress(entry, id).await?;
    executions::refuse_expired(&progress)?;
    let message = match progress.status {
        Status::Completed => answers::files(state, entry, id).await?,
        _ => None,
    };
    let message = match message {
        Some(files) if query.include_metadata == Flag::Yes => {
            Some(off_thread(move || with_metadata(&files)).await?)
        }
        message => message,
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

/// The list of files, the metadata of each in its result as well: its clients
/// ask for it when they read, not only when they submit.
fn with_metadata(files: &RawValue) -> ApiResult<Box<RawValue>> {
    let fault = |_| ApiError::new(Code::Internal);
    let mut files: Vec<Map<String, Value>> = serde_json::from_str(files.get()).map_err(fault)?;
    for file in &mut files {
        let metadata = file.get("metadata").cloned().unwrap_or_default();
        if let Some(Value::Object(result)) = file.get_mut("result") {
            result.entry("metadata").or_insert(metadata);
        }
    }
    serde_json::value::to_raw_value(&files).map_err(fault)
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
