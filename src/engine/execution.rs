//! The execution actor: the life of one submission from its turn to its
//! terminal status.

use std::sync::Arc;

use actix::prelude::{
    Actor, ActorContext as _, ActorFutureExt, AsyncContext, Context as ActorContext, WrapFuture,
};
use millrace_entities::execution;
use serde_json::json;
use uuid::Uuid;

use super::admission::Places;
use super::context::Context;
use super::deployment::Ended;
use super::directory::Entry;
use super::lifecycle::{self, Event, Status};
use super::live::{Live, Progress};
use super::plan::Revision;
use super::run::{self, Outcome, STORE_AWAY};
use super::walk::{error_value, number};
use crate::steps::StepError;
use crate::store::StoreError;
use crate::store::committer::{Claim, CommitError, Ending, StepRow, Write};
use crate::store::records::PASSED_OVER;
use crate::usage::Subject;

/// What is to run.
pub enum Work {
    /// The execution's row.
    Row(Box<execution::Model>),
    /// The row is large and waits in the store.
    InStore {
        /// The execution.
        id: Uuid,
        /// The attempt this node owns it by.
        attempt: i32,
    },
}

/// The actor.
pub struct Execution {
    context: Arc<Context>,
    entry: Arc<Entry>,
    revision: Arc<Revision>,
    live: Arc<Live>,
    claim: Claim,
    work: Option<Work>,
    places: Option<Places>,
}

impl Execution {
    /// An actor for one execution whose turn has come.
    pub fn new(
        context: Arc<Context>,
        entry: Arc<Entry>,
        revision: Arc<Revision>,
        live: Arc<Live>,
        work: Work,
        places: Places,
    ) -> Self {
        let claim = match &work {
            Work::Row(row) => context.claim(row.id, row.attempt),
            Work::InStore { id, attempt } => context.claim(*id, *attempt),
        };
        Self { context, entry, revision, live, claim, work: Some(work), places: Some(places) }
    }
}

impl Actor for Execution {
    type Context = ActorContext<Self>;

    /// The whole life runs as one task off the arbiters: a panic in it ends
    /// the task, not this actor, and becomes an `ERROR`.
    fn started(&mut self, ctx: &mut Self::Context) {
        let Some(work) = self.work.take() else { return ctx.stop() };
        let context = Arc::clone(&self.context);
        let life = live_through(
            Arc::clone(&self.context),
            Arc::clone(&self.entry),
            Arc::clone(&self.revision),
            Arc::clone(&self.live),
            self.claim,
            work,
        );
        let task = context.lives.spawn_on(life, &context.work);
        ctx.spawn(task.into_actor(self).then(|ended, actor, _| {
            if ended.is_err() {
                tracing::error!(execution_id = %actor.claim.execution_id, "an execution's task panicked");
            }
            actor.leave().into_actor(actor).map(|(), _, ctx| ctx.stop())
        }));
    }
}

impl Execution {
    /// Persisted and announced: now out of the live map, the place given
    /// back, and the next one's turn.
    fn leave(&mut self) -> impl Future<Output = ()> + use<> {
        let id = self.claim.execution_id;
        // Another life of it may have begun here since.
        self.entry.live.remove_if(&id, |_, live| Arc::ptr_eq(live, &self.live));
        self.places = None;
        let entry = Arc::clone(&self.entry);
        async move {
            entry.tell(Ended(id)).await;
        }
    }
}

/// Runs the work and writes down its end; or gives up, if the execution is
/// another node's by now or is handed back.
async fn live_through(
    context: Arc<Context>,
    entry: Arc<Entry>,
    revision: Arc<Revision>,
    live: Arc<Live>,
    claim: Claim,
    work: Work,
) {
    let running = {
        let (context, entry) = (Arc::clone(&context), Arc::clone(&entry));
        let (live, revision) = (Arc::clone(&live), Arc::clone(&revision));
        async move { run::execute(&context, &entry, revision, &live, claim, work).await }
    };
    let handed_back = context.hand_back.cancelled();
    let outcome = tokio::select! {
        // A task of its own, so that a panic in it still gets an end written.
        joined = AbortOnDrop(context.work.spawn(running)) => joined,
        () = handed_back => return,
    };
    let outcome = match outcome {
        Ok(Some(outcome)) => outcome,
        Ok(None) => return given_up(claim),
        Err(_) => Outcome::failed("execution_crashed", "the execution failed unexpectedly"),
    };
    end(&context, &entry, &revision, &live, claim, outcome).await;
}

/// Persist, then announce: waiters hear of the end only after its commit.
async fn end(
    context: &Context,
    entry: &Entry,
    revision: &Revision,
    live: &Live,
    claim: Claim,
    outcome: Outcome,
) {
    let status = status_of(&live.progress.borrow());
    let status = match lifecycle::next(status, outcome.event) {
        Ok(status) => status,
        Err(error) => {
            tracing::error!(execution_id = %claim.execution_id, %error, "an end out of turn");
            Status::Error
        }
    };
    let steps = last_steps(revision, live, claim, &outcome).await;
    let ended_at = live.events.now();
    let ttl = revision.settings.result_ttl_seconds.map(|ttl| chrono::Duration::seconds(ttl.into()));
    let expires_at = ttl.map(|ttl| ended_at + ttl);
    let ending = Ending {
        status,
        documents_failed: count(outcome.documents_failed),
        steps_total: count(live.progress.borrow().steps_total),
        steps_done: count(live.progress.borrow().steps_done),
        error: outcome.error.as_ref().map(ToString::to_string),
        result: outcome.result,
        result_hash: outcome.result_hash,
        started_at: live.progress.borrow().started_at,
        ended_at,
        expires_at,
        steps,
        notice: revision.notice(entry.organisation_id),
        files: outcome.files,
    };
    let _writing = live.writing();
    let Some(written) = persist(context, entry, claim, ending).await else { return };
    if written.notice.is_some() {
        context.told.notify_one();
    }
    let status = written.status;
    let time = written.started_at.map(|start| (ended_at - start).to_std().unwrap_or_default());
    context.usage.ended(Subject::new(entry.id, live.key_id), status, time);
    let error = written.error.and_then(|text| serde_json::from_str(&text).ok());
    live.events.end(status, ended_at, error.as_ref());
    live.progress.send_modify(|progress| {
        progress.status = status;
        progress.ended_at = Some(ended_at);
        progress.expires_at = expires_at;
        progress.error = error;
        progress.documents_failed = outcome.documents_failed;
    });
    tracing::info!(
        execution_id = %claim.execution_id,
        status = lifecycle::name(status),
        documents_failed = outcome.documents_failed,
        "execution ended"
    );
}

/// Where it stands: a first attempt runs before that is committed and told.
fn status_of(progress: &Progress) -> Status {
    match progress.status {
        Status::Pending if progress.started_at.is_some() => Status::Executing,
        status => status,
    }
}

/// What is recorded of steps together with the end: the outcome of the last
/// one, and what the end interrupts.
async fn last_steps(
    revision: &Revision,
    live: &Live,
    claim: Claim,
    outcome: &Outcome,
) -> Vec<StepRow> {
    let reason = match &outcome.error {
        Some(error) => error.clone(),
        None => error_value(&StepError::cancelled()),
    };
    let kept = outcome.steps.iter().filter_map(|row| usize::try_from(row.document_index).ok());
    let interrupted = live.events.close(&reason, &kept.collect::<Vec<_>>()).into_iter();
    let plan = revision.plan().await.ok();
    let id_of = |step: usize| Some(plan.as_ref()?.steps.get(step)?.id.clone());
    let interrupted = interrupted.map(|step| StepRow {
        execution_id: claim.execution_id,
        document_index: number(step.document),
        step_index: number(step.step),
        step_id: id_of(step.step).unwrap_or_default(),
        attempt: claim.attempt,
        output: None,
        output_hash: None,
        error: Some(reason.to_string()),
        started_at: step.started_at,
        ended_at: step.ended_at,
        tries: step.tries,
    });
    outcome.steps.iter().cloned().chain(interrupted).collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Writes the end down, for as long as it takes, and returns what was written:
/// a cancel that was answered before this commit wins. None if it is not ours
/// to write, or if this life of the node is over.
async fn persist(context: &Context, entry: &Entry, claim: Claim, ending: Ending) -> Option<Ending> {
    let mut ending = Box::new(ending);
    loop {
        let write = Write::End(claim, ending.clone());
        let committed = match context.committer.enqueue(write).await {
            Ok(done) => done.await.unwrap_or_else(|_| {
                Err(CommitError::Unavailable("the committer has ended".into()))
            }),
            Err(error) => Err(error),
        };
        match committed {
            Ok(()) => return Some(*ending),
            Err(CommitError::Lost) => match stands(context, entry, claim).await {
                Ok(true) => return Some(*ending),
                Ok(false) => {
                    given_up(claim);
                    return None;
                }
                Err(error) => {
                    tracing::warn!(execution_id = %claim.execution_id, %error, "waiting for the store");
                    tokio::select! {
                        () = tokio::time::sleep(STORE_AWAY) => {}
                        () = context.hand_back.cancelled() => return None,
                    }
                }
            },
            Err(CommitError::Cancelled) => {
                ending.status = Status::Stopped;
                ending.result = None;
                ending.result_hash = None;
                ending.error = None;
            }
            Err(CommitError::Refused(text)) if ending.status != Status::Error => {
                tracing::error!(execution_id = %claim.execution_id, error = text, "the end was refused");
                ending.status = Status::Error;
                ending.result = None;
                ending.result_hash = None;
                // What the step gave may be what cannot be stored.
                for step in ending.steps.iter_mut().filter(|step| step.error.is_none()) {
                    step.output.take_if(|output| output != PASSED_OVER);
                }
                let error = json!({"code": "result_unstorable", "detail": "the result could not be stored"});
                ending.error = Some(error.to_string());
            }
            Err(error) => {
                tracing::warn!(execution_id = %claim.execution_id, %error, "the end cannot be written yet");
                tokio::select! {
                    () = tokio::time::sleep(STORE_AWAY) => {
                        let outputs = ending.steps.iter().filter_map(|step| step.output_hash.as_deref());
                        for hash in ending.result_hash.as_deref().into_iter().chain(outputs) {
                            run::refresh(context, Some(hash)).await;
                        }
                    }
                    () = context.hand_back.cancelled() => return None,
                }
            }
        }
    }
}

fn given_up(claim: Claim) {
    tracing::warn!(execution_id = %claim.execution_id, "another owner has this execution");
}

/// Whether the end under this claim was committed, by a try that seemed to
/// fail: nobody else ends an execution under the same claim.
async fn stands(context: &Context, entry: &Entry, claim: Claim) -> Result<bool, StoreError> {
    let row = match context.store.execution(entry.id, claim.execution_id).await {
        Err(StoreError::NotFound) => return Ok(false),
        row => row?,
    };
    let is_ours = row.owner == Some(claim.owner) && row.attempt == claim.attempt;
    Ok(is_ours && lifecycle::is_terminal(row.status))
}

/// The outcome of a task that dies with whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Future for AbortOnDrop<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Self::Output> {
        std::pin::Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Whether an execution event follows a first or a later attempt.
pub(super) fn start_event(status: Status) -> Event {
    if status == Status::Executing { Event::Resume } else { Event::Start }
}
