//! The engine: registry, deployments, executions, their limits, their life
//! cycle, their supervision and their recovery.
//!
//! Faces call [`Engine`] and nothing below it.

pub mod acceptance;
pub mod admission;
pub mod audit;
pub mod connections;
pub mod context;
pub mod declared;
pub mod deployment;
pub mod directory;
pub mod events;
mod execution;
mod feed;
pub mod flow;
pub mod history;
pub mod idempotency;
pub mod lifecycle;
pub mod limiter;
pub mod live;
pub mod manage;
pub mod plan;
mod pulse;
mod record;
pub mod recovery;
pub mod registry;
pub mod rerun;
pub mod result;
pub mod retry;
mod run;
pub mod settings;
pub mod sources;
pub mod submission;
pub mod sweeper;
mod tries;
mod usage;
pub mod uses;
mod walk;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use chrono::Utc;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::{EngineConfig, UpkeepConfig};
use crate::ids::Key;
use crate::steps::Services;
use crate::store::committer::Committer;
use crate::store::records::{Scope, Summary};
use crate::store::{Store, StoreError};
use context::Context;
use deployment::{Admission, Admit, AskRate, Cancel, Refusal};
use directory::{Caller, Directory, Entry, Manager};
use lifecycle::Status;
use limiter::RateState;
use live::Progress;
use registry::{KeyRegistry, Load, Refresh, RefreshManagers, RefreshMany, Revive};
use sweeper::Sweeper;
use usage::Flusher;

/// Between looks at an execution that another node runs.
const ELSEWHERE: Duration = Duration::from_millis(250);

/// Shortest drain: a caller in the middle of a conversation hears of it by an
/// answer, which closes the connection, and not by a connection that breaks.
const DRAIN_NOTICE: Duration = Duration::from_millis(500);

/// Between looks at how many executions still run while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Longest wait at the stop for ends whose commit is under way.
const LAST_COMMITS: Duration = Duration::from_secs(5);

/// Why a cancel changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// It ended before.
    #[error("already ended")]
    Ended,
    /// The store's, `NotFound` included.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The engine of one server.
pub struct Engine {
    context: Arc<Context>,
    /// For requests, which wait for it only so long.
    store: Store,
    registry: Addr<KeyRegistry>,
    flusher: Flusher,
    sweeper: Arc<Sweeper>,
    arbiters: Vec<Arbiter>,
}

impl Engine {
    /// Starts the engine on arbiters of its own: reads deployments and keys,
    /// enters this node, and takes over what nobody runs. Call it inside an
    /// actix system.
    ///
    /// # Errors
    /// The store's.
    pub async fn start(
        config: EngineConfig,
        upkeep: UpkeepConfig,
        store: Store,
        committer: Committer,
        services: Arc<Services>,
        work: Handle,
    ) -> Result<Self, StoreError> {
        let arbiters: Vec<Arbiter> = (0..config.arbiters).map(|_| Arbiter::new()).collect();
        let context = Arc::new(Context::new(
            config,
            upkeep,
            Uuid::now_v7(),
            store.patient(),
            committer,
            services,
            work,
            Arc::new(Directory::default()),
            arbiters.iter().map(Arbiter::handle).collect(),
        ));
        context.store.register_node(context.node).await?;
        let actor = KeyRegistry::new(Arc::clone(&context));
        let handle = context.arbiter().ok_or_else(|| StoreError::Fault("no arbiter".into()))?;
        let registry = KeyRegistry::start_in_arbiter(handle, move |_| actor);
        // The connections were read first, and all else is read after them:
        // what changed since is read again.
        let seen = context.services.connections.version();
        registry.send(Load).await.map_err(|_| registry_away())??;
        context.work.spawn(feed::run(Arc::clone(&context), registry.clone(), seen));
        context.work.spawn(recovery::run(Arc::clone(&context), registry.clone()));
        context.work.spawn(pulse::watch(Arc::clone(&context)));
        context.work.spawn(connections::seal_anew(Arc::clone(&context)));
        context.work.spawn(uses::run(Arc::clone(&context)));
        // With the lives: the stop waits for what it has under way.
        context.lives.spawn_on(webhooks::run(Arc::clone(&context)), &context.work);
        let flusher = Flusher::start(
            Arc::clone(&context.usage),
            context.store.clone(),
            context.node,
            Duration::from_secs(context.upkeep.usage.flush_seconds),
            &context.work,
        );
        let sweeper = Arc::new(Sweeper::default());
        context.work.spawn(sweeper::run(Arc::clone(&context), Arc::clone(&sweeper)));
        Ok(Self { context, store, registry, flusher, sweeper, arbiters })
    }

    /// What the engine's actors share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The store, for requests: a call that takes too long fails.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Whose deployment key this is; no mailbox, no database.
    pub fn caller(&self, key: &Key) -> Option<Caller> {
        self.context.directory.caller(&key.hash(), Utc::now())
    }

    /// The deployment of that public id; no mailbox, no database.
    pub fn deployment_named(&self, public_id: &str) -> Option<Arc<Entry>> {
        self.context.directory.entry_named(public_id)
    }

    /// Whether the key that opened a deployment to the caller still does.
    pub fn still_opens(&self, caller: &Caller) -> bool {
        let now = self.context.directory.caller(&caller.key_hash, Utc::now());
        now.is_some_and(|now| now.entry.id == caller.entry.id)
    }

    /// Whose platform key this is; no mailbox, no database.
    pub fn manager(&self, key: &Key) -> Option<Manager> {
        self.context.directory.manager(&key.hash(), Utc::now())
    }

    /// Fails if the store does not answer within `limit`, or has taken no sign
    /// of life from this node for its lease: it may be there and take nothing,
    /// for lack of room.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn check_store(&self, limit: Duration) -> Result<(), StoreError> {
        self.store.ping(limit).await?;
        if self.context.is_felt() {
            return Ok(());
        }
        Err(StoreError::Unavailable("it takes no signs of life".into()))
    }

    /// Whether every deployment can serve.
    pub fn is_ready(&self) -> bool {
        self.registry.connected()
            && self.context.directory.entries().iter().all(|entry| entry.is_alive())
    }

    /// Asks the deployment whether a submission may go on. A deployment that
    /// died is rebuilt first. The rate is known unless it could not be asked.
    pub async fn admit(&self, entry: &Entry) -> (Option<RateState>, Result<Admission, Refusal>) {
        self.admit_as(entry, true).await
    }

    async fn admit_as(
        &self,
        entry: &Entry,
        metered: bool,
    ) -> (Option<RateState>, Result<Admission, Refusal>) {
        for _ in 0..2 {
            let Some(server) = self.context.accepted.try_take(self.context.config.max_executions)
            else {
                return (None, Err(Refusal::ServerBusy));
            };
            if let Some(address) = entry.address.load_full()
                && let Ok(admitted) = address.send(Admit { server, metered }).await
            {
                return (Some(admitted.rate), admitted.outcome);
            }
            if !self.revive(entry.id).await {
                break;
            }
        }
        (None, Err(Refusal::Unavailable))
    }

    /// What is left of the deployment's rate limit.
    pub async fn rate(&self, entry: &Entry) -> Option<RateState> {
        let address = entry.address.load_full()?;
        address.send(AskRate).await.ok().map(|left| left.0)
    }

    async fn revive(&self, id: Uuid) -> bool {
        self.ask(Revive(id), self.store.patience()).await.is_ok()
    }

    /// Asks the key registry for a change of what it knows. While the store
    /// hangs, so does the registry: whoever asks waits only so long, and what
    /// was asked for is done later.
    async fn ask<M>(&self, message: M, limit: Duration) -> Result<(), StoreError>
    where
        M: actix::Message<Result = Result<(), StoreError>> + Send + 'static,
        KeyRegistry: actix::Handler<M>,
    {
        let asked = tokio::time::timeout(limit, self.registry.send(message)).await;
        asked.map_err(|_| registry_away())?.map_err(|_| registry_away())?
    }

    /// Where an execution of the deployment stands: from memory if it is live
    /// here, else by one read. A node that was silent for its lease asks the
    /// store first: another one may have gone on with it. So does one that has
    /// a status on its way there: others may have read it already.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it is not the deployment's.
    pub async fn progress(&self, entry: &Entry, id: Uuid) -> Result<Progress, StoreError> {
        let Some(live) = entry.live.get(&id).map(|live| Arc::clone(&live)) else {
            return Ok(Progress::from_row(&self.store.execution(entry.id, id).await?));
        };
        if self.context.can_tell(&live) {
            return Ok(live.progress.borrow().clone());
        }
        match self.store.execution(entry.id, id).await {
            Ok(row) => {
                let told = Progress::from_row(&row);
                live.hear(&told);
                Ok(if self.context.owns(&row) { live.progress.borrow().clone() } else { told })
            }
            Err(StoreError::Unavailable(_)) if self.context.knows_its_work() => {
                Ok(live.progress.borrow().clone())
            }
            Err(error) => Err(error),
        }
    }

    /// Where an execution stands, of which the store knows `row`.
    pub fn progress_of(&self, row: &Summary) -> Progress {
        let entry = self.context.directory.at_work(row.deployment_id);
        let live = entry.and_then(|entry| entry.live.get(&row.id).map(|live| Arc::clone(&live)));
        let told = Progress::from_summary(row);
        let Some(live) = live else { return told };
        live.hear(&told);
        if lifecycle::is_terminal(row.status) { told } else { live.progress.borrow().clone() }
    }

    /// Waits until the execution's progress is as `wanted`, or it has ended,
    /// or `limit` is over, or this server's draining; returns where it stands
    /// then.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it is not the deployment's.
    pub async fn wait(
        &self,
        entry: &Entry,
        id: Uuid,
        limit: Duration,
        wanted: impl Fn(&Progress) -> bool,
    ) -> Result<Progress, StoreError> {
        let deadline = Instant::now() + limit;
        let closing = &self.context.closing;
        let reached =
            |progress: &Progress| lifecycle::is_terminal(progress.status) || wanted(progress);
        loop {
            // The guard of the map must not be held across the wait.
            let live = entry.live.get(&id).map(|live| Arc::clone(&live));
            let mut pause = deadline.min(Instant::now() + ELSEWHERE);
            if let Some(live) = live {
                let mut watching = live.progress.subscribe();
                let seen = tokio::select! {
                    seen = tokio::time::timeout_at(deadline, watching.wait_for(&reached)) => seen,
                    () = closing.cancelled() => return self.progress(entry, id).await,
                };
                if let Ok(Ok(progress)) = seen
                    && (lifecycle::is_terminal(progress.status) || self.context.can_tell(&live))
                {
                    return Ok(progress.clone());
                }
                // Ended between two looks, or given to another node.
                pause = Instant::now();
            }
            let progress = self.progress(entry, id).await?;
            if reached(&progress) || Instant::now() >= deadline || closing.is_cancelled() {
                return Ok(progress);
            }
            tokio::time::sleep_until(pause).await;
        }
    }

    /// Stops an execution: durably asked for first, then told to whoever runs
    /// it. Asking again is the same as asking once.
    ///
    /// # Errors
    /// [`CancelError::Ended`] if it had ended otherwise.
    pub async fn cancel(&self, deployment_id: Uuid, id: Uuid) -> Result<Progress, CancelError> {
        let entry = self.context.directory.at_work(deployment_id);
        let asked = self.store.request_cancel(deployment_id, id).await?;
        if asked && let Some(entry) = entry {
            entry.tell(Cancel(id)).await;
            return Ok(self.progress(&entry, id).await?);
        }
        let row = self.store.summary(Scope::Deployment(deployment_id), id).await?;
        match row.status {
            Status::Completed | Status::Error => Err(CancelError::Ended),
            _ => Ok(Progress::from_summary(&row)),
        }
    }

    /// Brings a changed, new or deleted deployment into force.
    ///
    /// # Errors
    /// The store's; then the old state holds on.
    pub async fn refresh(&self, deployment_id: Uuid) -> Result<(), StoreError> {
        self.ask(Refresh(deployment_id), self.store.patience()).await
    }

    /// Brings many changed or new deployments into force.
    ///
    /// # Errors
    /// The store's; then the old state holds on, for all of them.
    pub async fn refresh_many(&self, ids: Vec<Uuid>) -> Result<(), StoreError> {
        self.ask(RefreshMany(ids), self.context.store.patience()).await
    }

    /// Brings new, changed or revoked platform keys of an organisation into
    /// force.
    ///
    /// # Errors
    /// The store's; then the old state holds on.
    pub async fn refresh_managers(&self, organisation_id: Uuid) -> Result<(), StoreError> {
        self.ask(RefreshManagers(organisation_id), self.store.patience()).await
    }

    /// Refuses new work and waits until what runs has ended, for at most the
    /// configured grace. Then it ends all waits.
    pub async fn drain(&self) {
        self.context.start_draining();
        let start = Instant::now();
        let deadline = start + Duration::from_secs(self.context.config.drain_grace_seconds);
        let running = || {
            let entries = self.context.directory.all_at_work();
            entries.iter().any(|entry| entry.live.iter().any(|live| live.has_started()))
        };
        let noticed = || start.elapsed() >= DRAIN_NOTICE;
        while (running() || !noticed()) && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
        self.context.closing.cancel();
    }

    /// Ends the engine: what still waits or runs is given back to the store,
    /// for any node to go on with.
    pub async fn stop(&self) {
        self.context.start_draining();
        self.context.hand_back.cancel();
        uses::keep(&self.context).await;
        match self.context.store.hand_back(self.context.node).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "unfinished executions handed back"),
            Err(error) => {
                tracing::warn!(%error, "not handed back; taken over when the lease is over");
            }
        }
        self.context.lives.close();
        if tokio::time::timeout(LAST_COMMITS, self.context.lives.wait()).await.is_err() {
            tracing::warn!("executions still write their end; their usage is not counted");
        }
        if let Err(error) = self.flush_usage().await {
            tracing::error!(%error, "usage since the last flush is lost");
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
    }
}

fn registry_away() -> StoreError {
    StoreError::Unavailable("the key registry is away".into())
}

/// The JSON of a progress error's parts: `code` and `detail`.
pub fn error_parts(error: &Value) -> (&str, &str) {
    let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
    (part("code"), part("detail"))
}
