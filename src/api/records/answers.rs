//! What an organisation is told of its executions.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::api::State;
use crate::api::answer::{Answers, Field, time};
use crate::api::events::stage_name;
use crate::api::executions::answers::{Count, Failure};
use crate::engine::error_parts;
use crate::engine::events::{Event, State as Stage, What};
use crate::engine::history::Outline;
use crate::engine::lifecycle::{self, Status};
use crate::store::records::{Given, Listed, StepMark};

/// What was called.
#[derive(Serialize, JsonSchema)]
struct Called {
    id: String,
    /// Its name, the last one if it was deleted.
    api_name: String,
    is_deleted: bool,
}

/// Where to go from here.
#[derive(Serialize, JsonSchema)]
struct RecordLinks {
    #[serde(rename = "self")]
    this: String,
    steps: String,
    logs: String,
    cancel: String,
    rerun: String,
    /// Those that repeat it.
    reruns: String,
    /// The one that it repeats.
    rerun_of: Option<String>,
}

/// An execution.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Execution")]
pub struct ExecutionAnswer {
    execution_id: String,
    /// `PENDING`, `EXECUTING`, `COMPLETED`, `ERROR` or `STOPPED`.
    status: &'static str,
    deployment: Called,
    /// The deployment's revision it runs on.
    revision: i32,
    /// The key that submitted it; null if the organisation ran it again.
    key_id: Option<String>,
    tags: Vec<String>,
    documents: Count,
    /// Steps over all documents; 0 until they are known.
    steps: Count,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    /// From when on the result may be gone.
    expires_at: Option<String>,
    /// The execution that it repeats.
    rerun_of: Option<String>,
    error: Option<Failure>,
    links: RecordLinks,
}

impl ExecutionAnswer {
    /// An execution of the organisation `org_id`.
    pub fn of(state: &State, org_id: &str, listed: Listed) -> Self {
        let Listed { summary: row, tags, deployment } = listed;
        let progress = state.engine.progress_of(&row);
        let base = state.config.public_url.trim_end_matches('/');
        let all = format!("{base}/unstract/{org_id}/api/v2/execution/");
        let this = format!("{all}{}/", row.id);
        Self {
            execution_id: row.id.to_string(),
            status: lifecycle::name(progress.status),
            deployment: Called {
                id: row.deployment_id.to_string(),
                api_name: deployment.api_name,
                is_deleted: deployment.is_deleted,
            },
            revision: row.revision,
            key_id: row.key_id.map(|id| id.to_string()),
            tags,
            documents: Count::documents(&progress),
            steps: Count::steps(&progress),
            created_at: time(progress.created_at),
            started_at: progress.started_at.map(time),
            ended_at: progress.ended_at.map(time),
            expires_at: progress.expires_at.map(time),
            rerun_of: row.rerun_of.map(|id| id.to_string()),
            error: progress.error.as_ref().map(Failure::of),
            links: RecordLinks {
                steps: format!("{this}steps/"),
                logs: format!("{this}logs/"),
                cancel: format!("{this}cancel/"),
                rerun: format!("{this}rerun/"),
                reruns: format!("{all}?rerun_of={}", row.id),
                rerun_of: row.rerun_of.map(|id| format!("{all}{id}/")),
                this,
            },
        }
    }
}

/// A document of an execution.
#[derive(Serialize, JsonSchema)]
struct FileAnswer {
    /// Position in the submission.
    document: usize,
    file_execution_id: Uuid,
    file: String,
    /// In bytes.
    size: u64,
    /// blake3 of the content.
    hash: String,
    /// As the caller declared it.
    mime_type: Option<String>,
    /// `pending`, `started`, `completed`, `failed` or `stopped`.
    state: &'static str,
    error: Option<Failure>,
}

/// An execution with its documents.
#[derive(Serialize, JsonSchema)]
pub struct ExecutionDetail {
    #[serde(flatten)]
    execution: ExecutionAnswer,
    /// None where it runs without.
    files: Vec<FileAnswer>,
}

impl Answers for ExecutionDetail {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(200, "The execution"), (202, "Taken note of; not ended yet")];
}

/// An execution that repeats another one, as it was accepted.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Repeated(pub ExecutionDetail);

impl Answers for Repeated {
    const STATUSES: &'static [(u16, &'static str)] = &[(202, "Stored, and to be run")];
    const HEADERS: &'static [Field] = &[Field::Location];
}

impl ExecutionDetail {
    /// Where it is shown.
    pub fn place(&self) -> &str {
        &self.execution.links.this
    }

    /// An execution and what happened to its documents.
    pub fn of(execution: ExecutionAnswer, outline: &Outline, events: &[Event]) -> Self {
        let of_documents = events.iter().filter_map(|event| match event.what {
            What::Document(document, stage) => Some((document, (stage, event.error.as_deref()))),
            _ => None,
        });
        // The last one stays.
        let last: HashMap<_, _> = of_documents.collect();
        let files = outline.documents.iter().enumerate().map(|(document, file)| {
            let (stage, error) = last.get(&document).copied().unzip();
            FileAnswer {
                document,
                file_execution_id: file.id,
                file: file.name.clone(),
                size: file.size,
                hash: file.hash.to_string(),
                mime_type: file.mime_type.clone(),
                state: stage.map_or("pending", stage_name),
                error: error.flatten().map(Failure::of),
            }
        });
        Self { files: files.collect(), execution }
    }
}

/// A recorded step.
#[derive(Serialize, JsonSchema)]
pub struct StepAnswer {
    /// Position of the document in the submission.
    document: i32,
    file: String,
    /// The step's id in the workflow.
    step: String,
    /// Position in the workflow.
    index: i32,
    /// The step kind; absent if the revision is gone.
    kind: Option<String>,
    /// The execution's attempt that recorded it; 0 if it was taken over from the execution that this one repeats.
    attempt: i32,
    /// How often that attempt tried it; 0 if it was not to run.
    tries: i32,
    /// `completed`, `skipped` (passed over), `failed` or `stopped`.
    state: &'static str,
    started_at: String,
    ended_at: String,
    /// How long it took.
    seconds: f64,
    error: Option<Failure>,
    /// What it gave, if asked for and small.
    #[schemars(with = "serde_json::Value")]
    output: Option<Box<RawValue>>,
    /// blake3 of what it gave, if that is large.
    output_hash: Option<String>,
}

impl StepAnswer {
    /// A recorded step, with its output if that is wanted.
    pub fn of(mark: StepMark, output: Option<String>, outline: &Outline) -> Self {
        let error: Option<serde_json::Value> =
            mark.error.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let document = usize::try_from(mark.document_index).unwrap_or_default();
        let step = usize::try_from(mark.step_index).ok();
        let kind = step.and_then(|step| outline.steps.get(step)).map(|step| step.uses.clone());
        let stage = match mark.given {
            Given::Unchanged => Stage::Skipped,
            _ => Stage::of(error.as_ref()),
        };
        let took = (mark.ended_at - mark.started_at).to_std().unwrap_or_default();
        Self {
            document: mark.document_index,
            file: outline.file(document).to_owned(),
            step: mark.step_id,
            index: mark.step_index,
            kind,
            attempt: mark.attempt,
            tries: mark.tries,
            state: stage_name(stage),
            started_at: time(mark.started_at),
            ended_at: time(mark.ended_at),
            seconds: took.as_secs_f64(),
            error: error.as_ref().map(Failure::of),
            output: output.and_then(|text| RawValue::from_string(text).ok()),
            output_hash: mark.output_hash,
        }
    }
}

/// A line of an execution's log.
#[derive(Serialize, JsonSchema)]
pub struct LogLine {
    /// The id of the event.
    id: String,
    time: String,
    /// `info`, `warning` (stopped, or passed over for an error) or `error` (failed).
    level: &'static str,
    text: String,
    /// Position of the document that it is about.
    document: Option<usize>,
    /// Id of the step that it is about.
    step: Option<String>,
}

impl LogLine {
    /// An event in words.
    pub fn of(event: &Event, outline: &Outline) -> Self {
        let (text, step) = match event.what {
            What::Execution(status) => (format!("execution {}", verb(status)), None),
            What::Document(document, stage) => {
                (format!("{}: {}", outline.file(document), stage_name(stage)), None)
            }
            What::Step(document, step, stage) => {
                let id = outline.step(step);
                let text = format!("{}: step {id} {}", outline.file(document), stage_name(stage));
                (text, Some(id.to_owned()))
            }
        };
        let text =
            if event.tries > 1 { format!("{text} after {} tries", event.tries) } else { text };
        let text = match event.error.as_deref().map(error_parts) {
            Some((code, detail)) => format!("{text}: {code}: {detail}"),
            None => text,
        };
        Self {
            id: event.id.to_string(),
            time: time(event.id.time()),
            level: level(event),
            text,
            document: event.document(),
            step,
        }
    }
}

fn verb(status: Status) -> &'static str {
    match status {
        Status::Pending => "accepted",
        Status::Executing => "started",
        Status::Completed => "completed",
        Status::Error => "failed",
        Status::Stopped => "stopped",
    }
}

fn level(event: &Event) -> &'static str {
    match event.what {
        What::Execution(Status::Error)
        | What::Document(_, Stage::Failed)
        | What::Step(.., Stage::Failed) => "error",
        What::Execution(Status::Stopped)
        | What::Document(_, Stage::Stopped)
        | What::Step(.., Stage::Stopped) => "warning",
        What::Step(.., Stage::Skipped) if event.error.is_some() => "warning",
        _ => "info",
    }
}
