//! What callers are told of an execution.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::file::FileResult;
use crate::api::State;
use crate::api::answer::{Answers, Field, time};
use crate::engine::directory::Entry;
use crate::engine::error_parts;
use crate::engine::lifecycle::{self, Status};
use crate::engine::live::Progress;
use crate::error::{ApiError, ApiResult, Code};

/// Unstract's part of a submission's answer.
#[derive(Serialize, JsonSchema)]
pub struct UnstractMessage {
    execution_id: String,
    execution_status: &'static str,
    /// Path of Unstract's form of the status.
    status_api: String,
    error: Option<String>,
    #[schemars(with = "Option<Vec<FileResult>>")]
    result: Option<Box<RawValue>>,
}

/// The answer to a submission.
#[derive(Serialize, JsonSchema)]
pub struct Submitted {
    execution_id: String,
    /// `PENDING`, or a later status if the caller waited.
    status: &'static str,
    status_url: String,
    result_url: String,
    /// From when on the result may be gone.
    expires_at: Option<String>,
    /// The result, if the caller waited and the execution completed in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<FileResult>>")]
    result: Option<Box<RawValue>>,
    /// The same in Unstract's form.
    message: UnstractMessage,
}

impl Answers for Submitted {
    const STATUSES: &'static [(u16, &'static str)] = &[
        (200, "Stored and, if the caller waited, completed"),
        (202, "Stored; it will reach a terminal status"),
    ];
    const HEADERS: &'static [Field] = &[
        Field::IdempotentReplayed,
        Field::Location,
        Field::RetryAfter,
        Field::RateLimit,
        Field::RateRemaining,
        Field::RateReset,
    ];
}

/// What has been done of what there is.
#[derive(Serialize, JsonSchema)]
pub struct Count {
    total: usize,
    done: usize,
    failed: usize,
}

impl Count {
    /// Of documents.
    pub fn documents(progress: &Progress) -> Self {
        Self {
            total: progress.documents_total,
            done: progress.documents_done,
            failed: progress.documents_failed,
        }
    }

    /// Of steps over all documents; each failed document has one that failed.
    pub fn steps(progress: &Progress) -> Self {
        Self {
            total: progress.steps_total,
            done: progress.steps_done,
            failed: progress.documents_failed,
        }
    }
}

/// Why an execution failed.
#[derive(Serialize, JsonSchema)]
pub struct Failure {
    code: String,
    detail: String,
}

impl Failure {
    /// What is stored of an error.
    pub fn of(error: &Value) -> Self {
        let (code, detail) = error_parts(error);
        Self { code: code.to_owned(), detail: detail.to_owned() }
    }
}

/// Where to go from here.
#[derive(Serialize, JsonSchema)]
pub struct Links {
    #[serde(rename = "self")]
    this: String,
    result: String,
    cancel: String,
    /// Server-sent events.
    events: String,
}

/// Where an execution stands.
#[derive(Serialize, JsonSchema)]
pub struct StatusAnswer {
    execution_id: String,
    /// `PENDING`, `EXECUTING`, `COMPLETED`, `ERROR` or `STOPPED`.
    status: &'static str,
    documents: Count,
    /// Steps over all documents; 0 until they are known.
    steps: Count,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    /// From when on the result may be gone.
    expires_at: Option<String>,
    error: Option<Failure>,
    links: Links,
}

impl Answers for StatusAnswer {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(200, "Where the execution stands"), (202, "Taken note of; not ended yet")];
}

/// The result of an execution.
#[derive(Serialize, JsonSchema)]
pub struct ResultAnswer {
    pub(super) execution_id: String,
    pub(super) status: &'static str,
    /// One entry a document; absent while it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<FileResult>>")]
    pub(super) result: Option<Box<RawValue>>,
    /// From when on the result may be gone.
    pub(super) expires_at: Option<String>,
}

impl Answers for ResultAnswer {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(200, "The result; it can be read again and again"), (202, "It still runs")];
    const HEADERS: &'static [Field] = &[Field::RetryAfter];
}

/// The answer to a submission, with the result if it completed.
///
/// # Errors
/// The store's.
pub async fn submitted(
    state: &State,
    entry: &Entry,
    id: Uuid,
    progress: &Progress,
) -> ApiResult<Submitted> {
    let urls = Urls::of(state, entry, id);
    let status = lifecycle::name(progress.status);
    let files = match progress.status {
        Status::Completed => files(state, entry, id).await?,
        _ => None,
    };
    Ok(Submitted {
        execution_id: id.to_string(),
        status,
        status_url: urls.status,
        result_url: urls.result,
        expires_at: progress.expires_at.map(time),
        result: files.clone(),
        message: UnstractMessage {
            execution_id: id.to_string(),
            execution_status: status,
            status_api: urls.unstract,
            error: progress.error.as_ref().map(|error| error_parts(error).1.to_owned()),
            result: files,
        },
    })
}

/// The stored list of `FILE`, passed on as it is.
///
/// # Errors
/// The store's.
pub async fn files(state: &State, entry: &Entry, id: Uuid) -> ApiResult<Option<Box<RawValue>>> {
    let text = state.engine.result(entry, id).await?;
    let raw = text.map(RawValue::from_string).transpose();
    raw.map_err(|_| ApiError::new(Code::Internal))
}

/// Where an execution stands, in words for its caller.
pub fn status_answer(state: &State, entry: &Entry, id: Uuid, progress: &Progress) -> StatusAnswer {
    let urls = Urls::of(state, entry, id);
    StatusAnswer {
        execution_id: id.to_string(),
        status: lifecycle::name(progress.status),
        documents: Count::documents(progress),
        steps: Count::steps(progress),
        created_at: time(progress.created_at),
        started_at: progress.started_at.map(time),
        ended_at: progress.ended_at.map(time),
        expires_at: progress.expires_at.map(time),
        error: progress.error.as_ref().map(Failure::of),
        links: Links {
            this: urls.status,
            result: urls.result,
            cancel: urls.cancel,
            events: urls.events,
        },
    }
}

/// Links to an execution. They name the deployment by its public id: a link
/// may be logged, a key must not.
pub struct Urls {
    /// Its status.
    pub status: String,
    result: String,
    cancel: String,
    events: String,
    unstract: String,
}

impl Urls {
    /// The links of an execution of the deployment.
    pub fn of(state: &State, entry: &Entry, id: Uuid) -> Self {
        let base = state.config.public_url.trim_end_matches('/');
        let deployment = format!("{base}/deployment/{}", entry.public_id);
        let api_name = entry.api_name.load();
        Self {
            status: format!("{deployment}/status/{id}/"),
            result: format!("{deployment}/result/{id}/"),
            cancel: format!("{deployment}/cancel/{id}/"),
            events: format!("{deployment}/events/{id}/"),
            unstract: format!("/deployment/api/{}/{api_name}/?execution_id={id}", entry.org_id),
        }
    }
}
