//! One document's walk through the steps of its workflow.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::run::{Job, put_large, refresh};
use crate::clock;
use crate::documents::Hash;
use crate::steps::{DocumentRef, StepContext, StepError, StepScope};
use crate::store::committer::{CommitError, StepRow, Write};

/// Largest recorded output that is read back.
const MAX_OUTPUT_BYTES: u64 = 1 << 30;

/// How long one step took.
pub(super) struct StepTime {
    pub(super) id: String,
    pub(super) seconds: f64,
}

/// How one document's walk ended.
pub(super) struct DocumentOutcome {
    pub(super) id: Uuid,
    pub(super) document: Option<DocumentRef>,
    pub(super) output: Result<Value, StepError>,
    pub(super) extracted_text: Option<String>,
    pub(super) steps: Vec<StepTime>,
    pub(super) started_at: DateTime<Utc>,
    pub(super) ended_at: DateTime<Utc>,
    lost: bool,
}

impl DocumentOutcome {
    /// Whether another node owns the execution now.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }
}

/// Why a walk stops before its last step.
enum Interruption {
    Failed(StepError),
    Lost,
}

impl From<StepError> for Interruption {
    fn from(error: StepError) -> Self {
        Self::Failed(error)
    }
}

/// A walk, from its first step that is not recorded.
pub(super) struct Walk {
    job: Arc<Job>,
    index: usize,
    document: Option<DocumentRef>,
    steps: Vec<StepTime>,
    extracted_text: Option<String>,
}

impl Walk {
    pub(super) fn new(job: Arc<Job>, index: usize, document: Option<DocumentRef>) -> Self {
        Self { job, index, document, steps: Vec::new(), extracted_text: None }
    }

    /// Walks in a task of its own: a step that panics fails its document, and
    /// nothing else.
    pub(super) async fn contained(self) -> DocumentOutcome {
        let started_at = clock::now();
        let document = self.document.clone();
        let work = self.job.context.work.clone();
        let execution_id = self.job.claim.execution_id;
        let mut task =
            tokio_util::task::AbortOnDropHandle::new(work.spawn(self.run_to_end(started_at)));
        match (&mut task).await {
            Ok(outcome) => outcome,
            Err(_) => DocumentOutcome {
                id: document.as_ref().map_or(execution_id, |document| document.id),
                document,
                output: Err(StepError::crashed()),
                extracted_text: None,
                steps: Vec::new(),
                started_at,
                ended_at: clock::now(),
                lost: false,
            },
        }
    }

    async fn run_to_end(mut self, started_at: DateTime<Utc>) -> DocumentOutcome {
        let walked = self.walk().await;
        let (output, lost) = match walked {
            Ok(output) => (Ok(output), false),
            Err(Interruption::Failed(error)) => (Err(error), false),
            Err(Interruption::Lost) => (Err(StepError::cancelled()), true),
        };
        DocumentOutcome {
            id: self.document.as_ref().map_or(self.job.claim.execution_id, |document| document.id),
            document: self.document,
            output,
            extracted_text: self.extracted_text,
            steps: self.steps,
            started_at,
            ended_at: clock::now(),
            lost,
        }
    }

    async fn walk(&mut self) -> Result<Value, Interruption> {
        let job = Arc::clone(&self.job);
        let mut data = Arc::new(self.initial_data());
        let mut previous = Arc::new(job.request.input_data.clone());
        for (step_index, planned) in job.plan.steps.iter().enumerate() {
            let output = match self.recorded(step_index).await? {
                Some(output) => output,
                None => self.run_and_record(step_index, &data, previous).await?,
            };
            if planned.uses == "extract_text" && self.extracted_text.is_none() {
                self.extracted_text =
                    output.get("text").and_then(Value::as_str).map(ToOwned::to_owned);
            }
            // Nobody else holds the context between two steps, so it changes in place.
            let outputs =
                Arc::make_mut(&mut data).pointer_mut("/steps").and_then(Value::as_object_mut);
            if let Some(outputs) = outputs {
                outputs.insert(planned.id.clone(), output.clone());
            }
            previous = Arc::new(output);
            job.live.progress.send_modify(|progress| progress.steps_done += 1);
        }
        Ok(Arc::unwrap_or_clone(previous))
    }

    fn initial_data(&self) -> Value {
        let request = &self.job.request;
        let document = self.document.as_ref().map(|document| {
            json!({
                "index": self.index,
                "id": document.id,
                "name": document.name,
                "hash": document.hash,
                "size": document.size,
                "mime_type": document.mime_type,
            })
        });
        json!({
            "input_data": request.input_data,
            "parameters": request.parameters,
            "custom_data": request.custom_data,
            "document": document,
            "execution_id": self.job.claim.execution_id,
            "steps": Map::new(),
        })
    }

    /// What an earlier attempt recorded of a step.
    async fn recorded(&self, step_index: usize) -> Result<Option<Value>, StepError> {
        let Some(row) = self.job.recorded.get(&(number(self.index), number(step_index))) else {
            return Ok(None);
        };
        if let Some(error) = &row.error {
            return Err(recorded_error(error));
        }
        let unreadable =
            || StepError::permanent("output_unreadable", "a recorded output cannot be read");
        if let Some(text) = &row.output {
            return serde_json::from_str(text).map(Some).map_err(|_| unreadable());
        }
        let Some(hash) = row.output_hash.as_ref().and_then(|hash| hash.parse::<Hash>().ok()) else {
            return Ok(None);
        };
        let documents = &self.job.context.services.documents;
        let bytes = documents.read(hash, MAX_OUTPUT_BYTES).await.map_err(|_| unreadable())?;
        serde_json::from_slice(&bytes).map(Some).map_err(|_| unreadable())
    }

    async fn run_and_record(
        &mut self,
        step_index: usize,
        data: &Arc<Value>,
        previous: Arc<Value>,
    ) -> Result<Value, Interruption> {
        let job = Arc::clone(&self.job);
        let Some(planned) = job.plan.steps.get(step_index) else {
            return Err(StepError::crashed().into());
        };
        let input = match &planned.input {
            Some(pointer) => Arc::new(data.pointer(pointer).cloned().ok_or_else(|| {
                StepError::bad_input(format!("nothing at {pointer}, the input of `{}`", planned.id))
            })?),
            None => previous,
        };
        let context = StepContext {
            scope: StepScope {
                org_id: job.org_id.clone(),
                execution_id: job.claim.execution_id,
                document_index: u32::try_from(self.index).unwrap_or(u32::MAX),
                step_id: planned.id.clone(),
            },
            input,
            data: Arc::clone(data),
            document: self.document.clone(),
            services: Arc::clone(&job.context.services),
            cancel: job.cancel.clone(),
        };
        fail::fail_point!("step-run");
        let started_at = clock::now();
        // A step is told of a cancel and has its grace to end; who ignores it
        // is dropped with the whole walk when the grace is over.
        let output = planned.step.run(&context).await;
        drop(context);
        let ended_at = clock::now();
        let seconds = seconds_between(started_at, ended_at);
        self.steps.push(StepTime { id: planned.id.clone(), seconds });
        if job.cancel.is_cancelled() {
            return Err(StepError::cancelled().into());
        }
        self.record(step_index, &output, started_at, ended_at).await?;
        Ok(output?)
    }

    /// Records the outcome before the next step starts. The last one is not
    /// waited for: the execution's end follows it through the same lane.
    async fn record(
        &self,
        step_index: usize,
        output: &Result<Value, StepError>,
        started_at: DateTime<Utc>,
        ended_at: DateTime<Utc>,
    ) -> Result<(), Interruption> {
        let job = &self.job;
        let step_id =
            job.plan.steps.get(step_index).map(|step| step.id.clone()).unwrap_or_default();
        let mut row = StepRow {
            execution_id: job.claim.execution_id,
            document_index: number(self.index),
            step_index: number(step_index),
            step_id,
            attempt: job.claim.attempt,
            output: None,
            output_hash: None,
            error: None,
            started_at,
            ended_at,
        };
        match output {
            Ok(value) => {
                let text = value.to_string();
                if text.len() <= job.context.config.inline_bytes {
                    row.output = Some(text);
                } else {
                    let stored = put_large(&job.context, text).await;
                    let away = |detail| StepError::transient("document_store_unavailable", detail);
                    row.output_hash = Some(stored.map_err(away)?);
                }
            }
            Err(error) => row.error = Some(error_value(error).to_string()),
        }
        let is_last = output.is_err() || step_index + 1 == job.plan.steps.len();
        self.write(row, is_last).await
    }

    async fn write(&self, row: StepRow, is_last: bool) -> Result<(), Interruption> {
        let context = &self.job.context;
        loop {
            let write = Write::Step(self.job.claim, Box::new(row.clone()));
            let committed = match context.committer.enqueue(write).await {
                Ok(_) if is_last => return Ok(()),
                Ok(done) => done.await.unwrap_or(Err(CommitError::Lost)),
                Err(error) => Err(error),
            };
            match committed {
                Ok(()) => return Ok(()),
                Err(CommitError::Lost) => return Err(Interruption::Lost),
                Err(CommitError::Refused(_)) => {
                    let detail = "the step's output could not be stored";
                    return Err(StepError::permanent("output_unstorable", detail).into());
                }
                Err(error) => {
                    tracing::warn!(%error, "a step's outcome cannot be written yet");
                    tokio::time::sleep(super::run::STORE_AWAY).await;
                    refresh(context, row.output_hash.as_deref()).await;
                }
            }
        }
    }
}

/// Errors as they are stored and shown.
pub(super) fn error_value(error: &StepError) -> Value {
    json!({"code": error.code, "detail": error.detail})
}

fn recorded_error(text: &str) -> StepError {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let (code, detail) = super::error_parts(&value);
    StepError::permanent(code.to_owned(), detail)
}

fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

/// Seconds from one time to another; 0 if the clock was set back between.
pub(super) fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().unwrap_or_default().as_secs_f64()
}
