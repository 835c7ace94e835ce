//! One document's walk through the steps of its workflow.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::flow::Ended;
use super::plan::PlannedStep;
use super::record::{Lost, Recorded, record};
use super::run::Job;
use super::tries;
use crate::clock;
use crate::documents::Hash;
use crate::steps::{DocumentRef, StepContext, StepError, StepScope, offload};
use crate::store::committer::StepRow;
use crate::store::records::PASSED_OVER;

/// Largest recorded output that is read back.
const MAX_OUTPUT_BYTES: u64 = 1 << 30;

/// How long one step took, all its tries together.
pub(super) struct StepTime {
    pub(super) id: String,
    pub(super) seconds: f64,
    pub(super) tries: i32,
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
    /// The last step's outcome, if it is recorded with the execution's end.
    pub(super) unrecorded: Option<StepRow>,
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

impl From<Lost> for Interruption {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
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
    unrecorded: Option<StepRow>,
    /// Whether a step of the document has run in this execution.
    opened: bool,
}

impl Walk {
    pub(super) fn new(job: Arc<Job>, index: usize, document: Option<DocumentRef>) -> Self {
        Self {
            job,
            index,
            document,
            steps: Vec::new(),
            extracted_text: None,
            unrecorded: None,
            opened: false,
        }
    }

    /// Walks in a task of its own: a step that panics fails its document, and
    /// nothing else.
    pub(super) async fn contained(self) -> DocumentOutcome {
        let started_at = clock::now();
        let document = self.document.clone();
        let job = Arc::clone(&self.job);
        let index = self.index;
        let walking = job.context.work.spawn(self.run_to_end(started_at));
        let mut task = tokio_util::task::AbortOnDropHandle::new(walking);
        match (&mut task).await {
            Ok(outcome) => outcome,
            Err(_) => crashed(&job, index, document, started_at).await,
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
            unrecorded: self.unrecorded,
            lost,
        }
    }

    async fn walk(&mut self) -> Result<Value, Interruption> {
        let job = Arc::clone(&self.job);
        let mut data = Arc::new(self.initial_data());
        let mut previous = Arc::new(job.request.input_data.clone());
        for (step_index, planned) in job.plan.steps.iter().enumerate() {
            let output = match self.recorded(step_index).await {
                Some(output) => output?,
                None => self.run_and_record(step_index, planned, &data, &previous).await?,
            };
            job.live.progress.send_modify(|progress| progress.steps_done += 1);
            let Some(output) = output else { continue };
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
                "path": document.source.as_ref().map(|source| &source.path),
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

    /// What an earlier attempt recorded of a step, or was taken over of it: an output, or none if it
    /// was passed over. One that cannot be read is not recorded: steps are safe to repeat.
    async fn recorded(&mut self, step_index: usize) -> Option<Result<Option<Value>, StepError>> {
        let job = Arc::clone(&self.job);
        let row = job.recorded.get(&(number(self.index), number(step_index)))?;
        self.opened |= row.attempt > 0;
        match (&row.output, &row.output_hash, &row.error) {
            (None, None, Some(error)) => Some(Err(recorded_error(error))),
            (Some(text), ..) if text == PASSED_OVER => Some(Ok(None)),
            (Some(text), ..) => serde_json::from_str(text).ok().map(|output| Ok(Some(output))),
            (None, hash, _) => {
                let hash = hash.as_ref()?.parse::<Hash>().ok()?;
                let documents = &job.context.services.documents;
                let bytes = documents.read(hash, MAX_OUTPUT_BYTES).await.ok()?;
                serde_json::from_slice(&bytes).ok().map(|output| Ok(Some(output)))
            }
        }
    }

    /// A step that is stopped with its execution is left open: the end of the
    /// execution records it.
    async fn run_and_record(
        &mut self,
        step_index: usize,
        planned: &PlannedStep,
        data: &Arc<Value>,
        previous: &Arc<Value>,
    ) -> Result<Option<Value>, Interruption> {
        let job = Arc::clone(&self.job);
        let opens = !std::mem::replace(&mut self.opened, true);
        let started_at = job.live.events.begin_step(self.index, step_index, opens).ok_or(Lost)?;
        let input = match &planned.input {
            Some(pointer) => data.pointer(pointer).cloned().map(Arc::new),
            None => Some(Arc::clone(previous)),
        };
        let ended = match applies(planned, input.as_ref(), data).await {
            Ok(true) => Ended::of(self.run(planned, data, input).await, planned.on_error),
            Ok(false) => Ended::Skipped(None),
            Err(error) => Ended::failed(error, planned.on_error),
        };
        if !matches!(ended, Ended::Skipped(None)) {
            let seconds = seconds_between(started_at, clock::now());
            let tries = job.live.events.tries(self.index);
            self.steps.push(StepTime { id: planned.id.clone(), seconds, tries });
        }
        if job.cancel.is_cancelled() {
            return Err(StepError::cancelled().into());
        }
        let (ended, recorded) = record(&job, self.index, step_index, started_at, ended).await?;
        if let Recorded::WithEnd(row) = recorded {
            self.unrecorded = Some(*row);
        }
        Ok(ended.into_output()?)
    }

    /// A step is told of a cancel and has its grace to end; who ignores it is
    /// dropped with the whole walk when the grace is over.
    async fn run(
        &self,
        planned: &PlannedStep,
        data: &Arc<Value>,
        input: Option<Arc<Value>>,
    ) -> Result<Value, StepError> {
        let job = &self.job;
        let input = input.ok_or_else(|| {
            let pointer = planned.input.as_deref().unwrap_or_default();
            StepError::bad_input(format!("nothing at {pointer}, the input of `{}`", planned.id))
        })?;
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
            meter: Arc::clone(&job.meter),
            cancel: job.cancel.child_token(),
        };
        tries::run(job, self.index, planned, context).await
    }
}

/// Whether a step is to run. What is not there is no fault: a step may wait for
/// the output of one that was passed over.
async fn applies(
    planned: &PlannedStep,
    input: Option<&Arc<Value>>,
    data: &Arc<Value>,
) -> Result<bool, StepError> {
    let Some(condition) = planned.when.clone() else { return Ok(true) };
    let (input, data) = (input.cloned(), Arc::clone(data));
    offload(move || condition.holds(input.as_deref(), &data)).await
}

/// A step panicked: it failed, and its document with it.
async fn crashed(
    job: &Job,
    index: usize,
    document: Option<DocumentRef>,
    started_at: DateTime<Utc>,
) -> DocumentOutcome {
    let recorded = match job.live.events.open_step(index) {
        Some((step, began)) => {
            let ended = Ended::Failed(StepError::crashed());
            Some(record(job, index, step, began, ended).await)
        }
        None => None,
    };
    let lost = matches!(recorded, Some(Err(Lost)));
    let unrecorded = match recorded {
        Some(Ok((_, Recorded::WithEnd(row)))) => Some(*row),
        _ => None,
    };
    DocumentOutcome {
        id: document.as_ref().map_or(job.claim.execution_id, |document| document.id),
        document,
        output: Err(StepError::crashed()),
        extracted_text: None,
        steps: Vec::new(),
        started_at,
        ended_at: clock::now(),
        unrecorded,
        lost,
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

/// A position as the store counts it.
pub(super) fn number(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

/// Seconds from one time to another; 0 if the clock was set back between.
pub(super) fn seconds_between(from: DateTime<Utc>, to: DateTime<Utc>) -> f64 {
    (to - from).to_std().unwrap_or_default().as_secs_f64()
}
