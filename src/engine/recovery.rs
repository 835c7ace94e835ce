//! Recovery: signs of life, and the taking over of work that nobody runs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use millrace_entities::enums::Status;
use millrace_entities::execution;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::admission::Places;
use super::context::Context;
use super::deployment::{Begin, Cancel};
use super::directory::Entry;
use super::lifecycle;
use super::plan::Revision;
use super::registry::{KeyRegistry, Refresh};
use crate::clock;
use crate::store::StoreError;
use crate::store::committer::{Ending, Write};
use crate::usage::Subject;

/// Executions taken over in one round.
const ROUND: u64 = 256;

/// Between two rounds.
pub const TICK: Duration = Duration::from_secs(1);

/// Rounds between two looks for own executions that no actor has: an
/// acceptance whose commit was in doubt. After a doubt every one of so many
/// rounds looks: a server that hung may commit after it is back.
const STRAY_ROUNDS: u32 = 15;

/// Age from which on an execution that no actor has is a stray: most younger
/// ones are being accepted.
const STRAY_AGE: Duration = Duration::from_secs(2);

/// Runs rounds until the engine hands back its work.
pub(super) async fn run(context: Arc<Context>, registry: Addr<KeyRegistry>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut rounds = 0_u32;
    let mut doubtful = 0_u32;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = context.hand_back.cancelled() => return,
        }
        rounds = rounds.wrapping_add(1);
        if context.pulse.take_doubt() {
            doubtful = STRAY_ROUNDS;
        }
        let with_strays = doubtful > 0 || rounds.is_multiple_of(STRAY_ROUNDS);
        match round(&context, &registry, with_strays).await {
            Ok(()) => doubtful = doubtful.saturating_sub(1),
            Err(error) => tracing::warn!(%error, "a round of recovery failed"),
        }
    }
}

/// One round: a sign of life, the nodes that are gone, their work, and what
/// callers want stopped.
///
/// # Errors
/// The store's; the next round tries again.
pub async fn round(
    context: &Arc<Context>,
    registry: &Addr<KeyRegistry>,
    with_strays: bool,
) -> Result<(), StoreError> {
    // The store counts from some time between this and its answer.
    let beaten = Instant::now();
    let is_alone = match context.store.heartbeat(context.node).await {
        // Counted as gone: others may have taken our work, and the guard on
        // every write keeps us from it. What they left is ours again.
        Err(StoreError::Stale) => {
            context.store.register_node(context.node).await?;
            tracing::warn!("counted as gone; entered again");
            // What was taken over and came back to us runs under an old claim.
            context.pulse.doubt();
            let_go(context).await?;
            false
        }
        other => other?,
    };
    if context.pulse.beat(beaten, context.config.lease(), is_alone) {
        let lease_ms = i64::from(context.config.lease_seconds) * 1000;
        context.store.bury_silent_nodes(lease_ms).await?;
    }
    if context.is_draining() {
        return Ok(());
    }
    loop {
        let claim = context.store.claim_orphans(context.node, ROUND).await;
        // A claim that seems to have failed may stand.
        let rows = claim.inspect_err(|_| context.pulse.doubt())?;
        let claimed = rows.len() as u64;
        introduce(context, registry, &rows).await?;
        dispatch(context, rows).await;
        if claimed < ROUND {
            break;
        }
    }
    if with_strays {
        dispatch(context, strays(context).await?).await;
    }
    for (deployment_id, id) in context.store.cancel_requests(context.node).await? {
        if let Some(entry) = context.directory.at_work(deployment_id) {
            entry.tell(Cancel(id)).await;
        }
    }
    Ok(())
}

/// Stops what others have taken over: it could write nothing any more, and
/// callers would hear from here where it stood before.
async fn let_go(context: &Context) -> Result<(), StoreError> {
    let entries = context.directory.all_at_work();
    // Listed before the rows are read: what is live has its row.
    let live: Vec<_> = entries
        .iter()
        .flat_map(|entry| entry.live.iter().map(move |live| (entry, *live.key())))
        .collect();
    let own = context.store.unfinished(context.node, None).await?;
    let own: HashSet<Uuid> = own.into_iter().map(|row| row.id).collect();
    for (entry, id) in live {
        if !own.contains(&id) {
            entry.tell(Cancel(id)).await;
            entry.live.remove(&id);
        }
    }
    Ok(())
}

/// Makes deployments known that another node made while this one lived.
async fn introduce(
    context: &Context,
    registry: &Addr<KeyRegistry>,
    rows: &[execution::Model],
) -> Result<(), StoreError> {
    let ids: HashSet<Uuid> = rows.iter().map(|row| row.deployment_id).collect();
    for id in ids {
        if context.directory.entry(id).is_none() {
            let away = |_| StoreError::Unavailable("the key registry is away".into());
            registry.send(Refresh(id)).await.map_err(away)??;
        }
    }
    Ok(())
}

/// Own executions that no actor has.
async fn strays(context: &Context) -> Result<Vec<execution::Model>, StoreError> {
    let mut found = Vec::new();
    for (deployment_id, id) in context.store.unfinished_before(context.node, STRAY_AGE).await? {
        // Asked before the live map: what is begun meanwhile is in it.
        if context.accepting.contains(&id) {
            continue;
        }
        let entry = context.directory.at_work(deployment_id);
        if entry.is_none_or(|entry| !entry.live.contains_key(&id)) {
            match context.store.execution(deployment_id, id).await {
                // It may have ended since the list was read.
                Ok(row) if !lifecycle::is_terminal(row.status) => found.push(row),
                Ok(_) | Err(StoreError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(found)
}

/// Hands executions that this node owns to their deployments; those that
/// cannot run end as `ERROR`.
pub(super) async fn dispatch(context: &Context, rows: Vec<execution::Model>) {
    let mut revisions = HashMap::new();
    for row in rows {
        if row.recoveries > context.config.max_recoveries {
            let detail = "it was running each time when the server died, and is not tried again";
            fail(context, &row, "execution_quarantined", detail).await;
            continue;
        }
        let Some(entry) = context.directory.entry(row.deployment_id) else {
            fail(context, &row, "deployment_deleted", "the deployment was deleted").await;
            continue;
        };
        match revision_of(context, &entry, row.revision, &mut revisions).await {
            Ok(revision) => begin(context, &entry, row, revision).await,
            Err(StoreError::NotFound) => {
                fail(context, &row, "revision_unknown", "its revision is gone").await;
            }
            Err(error) => {
                tracing::warn!(execution_id = %row.id, %error, "it stays for a later round");
            }
        }
    }
}

async fn begin(context: &Context, entry: &Entry, row: execution::Model, revision: Arc<Revision>) {
    let places = Places { server: context.accepted.take(), deployment: entry.accepted.take() };
    entry.tell(Begin { row: Box::new(row), revision, places }).await;
}

/// The revision an execution began with, read once in a round.
async fn revision_of(
    context: &Context,
    entry: &Entry,
    number: i32,
    known: &mut HashMap<(Uuid, i32), Arc<Revision>>,
) -> Result<Arc<Revision>, StoreError> {
    let current = entry.revision.load_full();
    if current.number == number {
        return Ok(current);
    }
    if let Some(revision) = known.get(&(entry.id, number)) {
        return Ok(Arc::clone(revision));
    }
    let row = context.store.revision(entry.id, number).await?;
    let revision = Revision::from_row(row).map_err(|error| StoreError::Fault(error.to_string()))?;
    let revision = Arc::new(revision);
    known.insert((entry.id, number), Arc::clone(&revision));
    Ok(revision)
}

async fn fail(context: &Context, row: &execution::Model, code: &str, detail: &str) {
    // A deleted deployment's revisions stay as long as its executions.
    let notice = match context.store.revision(row.deployment_id, row.revision).await {
        Ok(revision) => {
            Revision::from_row(revision).ok().and_then(|one| one.notice(row.organisation_id))
        }
        Err(StoreError::NotFound) => None,
        Err(error) => {
            tracing::warn!(execution_id = %row.id, %error, "an end cannot be written yet");
            return;
        }
    };
    let status = if row.cancel_requested { Status::Stopped } else { Status::Error };
    let ending = Ending {
        status,
        documents_failed: row.documents_total,
        steps_total: row.steps_total,
        steps_done: row.steps_done,
        error: Some(json!({"code": code, "detail": detail}).to_string()),
        result: None,
        result_hash: None,
        started_at: row.started_at,
        ended_at: clock::now(),
        expires_at: None,
        steps: Vec::new(),
        notice,
        files: Vec::new(),
    };
    let claim = context.claim(row.id, row.attempt);
    match context.committer.commit(Write::End(claim, Box::new(ending))).await {
        Ok(()) => {
            let subject = Subject::new(row.deployment_id, row.key_id);
            context.usage.ended(subject, status, None);
            context.told.notify_one();
            tracing::warn!(execution_id = %row.id, code, "an execution cannot run");
        }
        Err(error) => {
            tracing::warn!(execution_id = %row.id, %error, "an end cannot be written yet");
        }
    }
}
