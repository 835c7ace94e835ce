//! An execution at work: its documents, several at once, within its time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream;
use millrace_entities::{execution, step_run};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::context::Context;
use super::directory::Entry;
use super::execution::{Work, start_event};
use super::history;
use super::lifecycle::{self, Event};
use super::live::Live;
use super::plan::{Plan, Revision};
use super::result;
use super::sources::gather::gather;
use super::sources::history::Files;
use super::submission::Request;
use super::walk::{DocumentOutcome, Walk};
use crate::steps::DocumentRef;
use crate::steps::meter::Meter;
use crate::store::committer::{Claim, CommitError, FileRow, StepRow, Write};
use crate::store::records::StepMark;
use crate::usage::Subject;

/// Between tries to read or write what is needed while the store is away.
pub(super) const STORE_AWAY: Duration = Duration::from_millis(250);

/// How the work ended.
pub struct Outcome {
    /// What happened to the execution.
    pub event: Event,
    /// Documents that failed.
    pub documents_failed: usize,
    /// Why it failed.
    pub error: Option<Value>,
    /// The result, as JSON, if it is small.
    pub result: Option<String>,
    /// The result in the document store, if it is large.
    pub result_hash: Option<String>,
    /// Outcomes of steps that are recorded with the end.
    pub steps: Vec<StepRow>,
    /// What came of the files of a source.
    pub files: Vec<FileRow>,
}

impl Outcome {
    /// The whole execution failed.
    pub fn failed(code: &str, detail: &str) -> Self {
        let error = Some(json!({"code": code, "detail": detail}));
        Self { event: Event::Fail, error, ..Self::stopped() }
    }

    /// A caller cancelled it.
    pub fn stopped() -> Self {
        Self {
            event: Event::Stop,
            documents_failed: 0,
            error: None,
            result: None,
            result_hash: None,
            steps: Vec::new(),
            files: Vec::new(),
        }
    }
}

/// What all documents of one execution share.
pub(super) struct Job {
    pub(super) context: Arc<Context>,
    pub(super) org_id: String,
    pub(super) revision: Arc<Revision>,
    pub(super) plan: Arc<Plan>,
    pub(super) live: Arc<Live>,
    pub(super) claim: Claim,
    pub(super) request: Request,
    /// Whether it has one document, or none and runs once.
    pub(super) is_single: bool,
    /// What an earlier attempt recorded, or was taken over, by document and
    /// step.
    pub(super) recorded: HashMap<(i32, i32), step_run::Model>,
    /// Counts what models take.
    pub(super) meter: Arc<Meter>,
    /// Cancelled when the execution is stopped or its time is up.
    pub(super) cancel: tokio_util::sync::CancellationToken,
    /// What comes of the files of a source; none if it has none.
    pub(super) files: Option<Files>,
}

/// Runs an execution to its outcome. None if it is not this node's any more.
pub(super) async fn execute(
    context: &Arc<Context>,
    entry: &Entry,
    revision: Arc<Revision>,
    live: &Arc<Live>,
    claim: Claim,
    work: Work,
) -> Option<Outcome> {
    let row = match work {
        Work::Row(row) => *row,
        Work::InStore { .. } => load(context, entry, claim).await?,
    };
    if live.cancel.is_cancelled() {
        return Some(Outcome::stopped());
    }
    let plan = match revision.plan().await {
        Ok(plan) => plan,
        Err(faults) => return Some(Outcome::failed("workflow_unusable", &faults)),
    };
    let limit = Duration::from_secs(revision.settings.execution_timeout_seconds.into());
    let deadline = Instant::now() + limit;
    let Ok((request, mut documents)) = parse(&row) else {
        return Some(Outcome::failed(
            "execution_unreadable",
            "the stored submission cannot be read",
        ));
    };
    begin(context, live, claim, &plan).await?;
    if row.gathered == Some(false) {
        documents = match gather(context, entry, &revision, live, claim, deadline).await? {
            Ok(documents) => documents,
            Err(outcome) => return Some(outcome),
        };
        live.count(documents.len(), plan.steps.len());
    }
    let mut earlier = HashMap::new();
    let takes_over = row.rerun_from.is_some_and(|from| from > 0);
    if claim.attempt > 1 || takes_over {
        earlier = recorded(context, claim).await;
        let marks = earlier.values().map(StepMark::of).collect();
        live.events.resume(claim.attempt, history::of_documents(marks, plan.steps.len()));
    }
    let job = Arc::new(Job {
        context: Arc::clone(context),
        org_id: entry.org_id.clone(),
        revision: Arc::clone(&revision),
        plan,
        live: Arc::clone(live),
        claim,
        request,
        is_single: documents.len() <= 1,
        recorded: earlier,
        meter: Meter::new(Arc::clone(&context.usage), Subject::new(entry.id, live.key_id)),
        cancel: live.cancel.child_token(),
        files: row.gathered.map(|_| Files::of(&documents)),
    });
    let mut outcome = match within_limits(&job, documents, deadline).await {
        Ok(outcomes) if outcomes.iter().any(DocumentOutcome::is_lost) => return None,
        Ok(outcomes) => conclude(&job, outcomes).await,
        Err(outcome) => outcome,
    };
    if let Some(files) = &job.files {
        outcome.files = files.rows(revision.workflow_id, claim.execution_id);
    }
    Some(outcome)
}

/// The row of an execution that waited in the store.
async fn load(context: &Context, entry: &Entry, claim: Claim) -> Option<execution::Model> {
    loop {
        match context.store.execution(entry.id, claim.execution_id).await {
            Ok(row) => return Some(row),
            Err(crate::store::StoreError::NotFound) => return None,
            Err(error) => {
                tracing::warn!(execution_id = %claim.execution_id, %error, "waiting for the store");
                tokio::time::sleep(STORE_AWAY).await;
            }
        }
    }
}

fn parse(row: &execution::Model) -> Result<(Request, Vec<DocumentRef>), serde_json::Error> {
    Ok((serde_json::from_str(&row.request)?, serde_json::from_str(&row.documents)?))
}

/// Notes that it runs. None if it is not this node's any more.
///
/// A first attempt does not wait for the commit: the end overtakes it, or
/// nobody minds. A later one does: an execution that kills its node must be
/// seen to have run, or it would be tried for ever.
async fn begin(context: &Arc<Context>, live: &Arc<Live>, claim: Claim, plan: &Plan) -> Option<()> {
    let now = live.events.now();
    let telling = tell(Arc::clone(context), Arc::clone(live), claim, now);
    if claim.attempt == 1 {
        context.work.spawn(telling);
    } else {
        telling.await?;
    }
    if live.progress.borrow().started_at.is_none() {
        live.events.begin(now);
    }
    live.progress.send_modify(|progress| {
        progress.started_at.get_or_insert(now);
        progress.steps_total = plan.steps.len() * progress.documents_total;
    });
    Some(())
}

/// Persist, then announce: who was told `EXECUTING` never hears `PENDING`
/// again, whatever dies in between. None if it is not this node's any more.
async fn tell(
    context: Arc<Context>,
    live: Arc<Live>,
    claim: Claim,
    now: DateTime<Utc>,
) -> Option<()> {
    let _writing = live.writing();
    loop {
        let committed = match context.committer.enqueue(Write::Begin(claim, now)).await {
            Ok(done) => done.await.unwrap_or(Err(CommitError::Lost)),
            Err(error) => Err(error),
        };
        match committed {
            Ok(()) => break,
            Err(CommitError::Lost) => return None,
            Err(error) => {
                tracing::warn!(execution_id = %claim.execution_id, %error, "waiting for the store");
                tokio::time::sleep(STORE_AWAY).await;
            }
        }
    }
    live.progress.send_modify(|progress| {
        if let Ok(status) = lifecycle::next(progress.status, start_event(progress.status)) {
            progress.status = status;
        }
    });
    Some(())
}

/// What an earlier attempt recorded. Steps are safe to repeat, so a store
/// that stays away costs only repeated work.
async fn recorded(context: &Context, claim: Claim) -> HashMap<(i32, i32), step_run::Model> {
    match context.store.step_runs(claim.execution_id).await {
        Ok(rows) => {
            rows.into_iter().map(|row| ((row.document_index, row.step_index), row)).collect()
        }
        Err(error) => {
            tracing::warn!(execution_id = %claim.execution_id, %error, "recorded steps run again");
            HashMap::new()
        }
    }
}

/// Runs all documents until they end, the time is up, or the grace after a
/// cancel is over.
async fn within_limits(
    job: &Arc<Job>,
    documents: Vec<DocumentRef>,
    deadline: Instant,
) -> Result<Vec<DocumentOutcome>, Outcome> {
    let grace = Duration::from_secs(job.context.config.cancel_grace_seconds);
    let stopped = async {
        job.live.cancel.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    let ended = tokio::select! {
        outcomes = run_documents(job, documents) => Ok(outcomes),
        () = tokio::time::sleep_until(deadline) => {
            job.cancel.cancel();
            let limit = job.revision.settings.execution_timeout_seconds;
            let detail = format!("the execution took more than {limit} s");
            Err(Outcome::failed("execution_timed_out", &detail))
        }
        () = stopped => Err(Outcome::stopped()),
    };
    if job.live.cancel.is_cancelled() { Err(Outcome::stopped()) } else { ended }
}

/// An execution without documents runs its steps once, unless it gathers them
/// itself.
async fn run_documents(job: &Arc<Job>, documents: Vec<DocumentRef>) -> Vec<DocumentOutcome> {
    let mut walks: Vec<Option<DocumentRef>> = documents.into_iter().map(Some).collect();
    if walks.is_empty() && job.files.is_none() {
        walks.push(None);
    }
    let started = walks.into_iter().enumerate().map(|(index, document)| {
        let job = Arc::clone(job);
        async move {
            let walk = Walk::new(Arc::clone(&job), index, document);
            let outcome = walk.contained().await;
            if let Some(files) = &job.files {
                files.end(index, &outcome.output);
            }
            job.live.progress.send_modify(|progress| {
                progress.documents_done += 1;
                progress.documents_failed += usize::from(outcome.output.is_err());
            });
            outcome
        }
    });
    stream::iter(started).buffered(job.context.config.document_concurrency).collect().await
}

/// Makes the result of all documents, and stores it if it is large.
async fn conclude(job: &Job, mut outcomes: Vec<DocumentOutcome>) -> Outcome {
    let steps = outcomes.iter_mut().filter_map(|outcome| outcome.unrecorded.take()).collect();
    let documents_failed = outcomes.iter().filter(|outcome| outcome.output.is_err()).count();
    let all_failed = !outcomes.is_empty() && documents_failed == outcomes.len();
    let error = if all_failed { result::failure(&outcomes) } else { None };
    let event = if all_failed { Event::Fail } else { Event::Succeed };
    let text = result::files(job, outcomes).to_string();
    let mut outcome = Outcome { event, documents_failed, error, steps, ..Outcome::stopped() };
    if text.len() <= job.context.config.inline_bytes {
        outcome.result = Some(text);
        return outcome;
    }
    match put_large(&job.context, text).await {
        Ok(hash) => outcome.result_hash = Some(hash),
        Err(detail) => {
            return Outcome {
                steps: outcome.steps,
                ..Outcome::failed("result_unstorable", &detail)
            };
        }
    }
    outcome
}

/// Keeps large bytes from being swept while the store does not take the
/// reference to them.
pub(super) async fn refresh(context: &Context, hash: Option<&str>) {
    if let Some(hash) = hash.and_then(|hash| hash.parse().ok())
        && let Err(error) = context.services.documents.refresh(hash).await
    {
        tracing::warn!(%error, "a stored output could not be refreshed");
    }
}

/// Stores a large JSON text; returns its hash.
pub(super) async fn put_large(context: &Context, text: String) -> Result<String, String> {
    let stored = context.services.documents.put(Bytes::from(text)).await;
    stored.map(|stored| stored.hash.to_string()).map_err(|error| {
        tracing::error!(%error, "the document store refused an output");
        "the document store cannot be written".to_owned()
    })
}
