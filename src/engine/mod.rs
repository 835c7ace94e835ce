//! The engine: registry, deployments, executions, their limits, their life
//! cycle, their supervision and their recovery.
//!
//! Faces call [`Engine`] and nothing below it.

pub mod admission;
pub mod audit;
pub mod connections;
pub mod context;
pub mod deployment;
pub mod directory;
mod execution;
pub mod lifecycle;
pub mod limiter;
pub mod live;
pub mod manage;
pub mod plan;
pub mod recovery;
pub mod registry;
mod result;
mod run;
pub mod settings;
pub mod submission;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use chrono::Utc;
use millrace_entities::{execution as row, organisation, platform_key};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock;
use crate::config::EngineConfig;
use crate::ids::Key;
use crate::steps::{DocumentRef, Services};
use crate::store::committer::{CommitError, Committer, ExecutionRow, Write};
use crate::store::{Store, StoreError};
use context::Context;
use deployment::{Admission, Admit, AskRate, Begin, Cancel, Refund, Refusal};
use directory::{Caller, Directory, Entry, Manager};
use lifecycle::Status;
use limiter::RateState;
use live::Progress;
use registry::{KeyRegistry, Load, PutManager, Refresh, Revive};
use submission::Request;

/// Between looks at an execution that another node runs.
const ELSEWHERE: Duration = Duration::from_millis(250);

/// Between looks at how many executions still run while draining.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

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
    registry: Addr<KeyRegistry>,
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
        store: Store,
        committer: Committer,
        services: Arc<Services>,
        work: Handle,
    ) -> Result<Self, StoreError> {
        let arbiters: Vec<Arbiter> = (0..config.arbiters).map(|_| Arbiter::new()).collect();
        let context = Arc::new(Context::new(
            config,
            Uuid::now_v7(),
            store,
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
        registry.send(Load).await.map_err(|_| registry_away())??;
        context.work.spawn(recovery::run(Arc::clone(&context), registry.clone()));
        context.work.spawn(connections::follow(Arc::clone(&context)));
        Ok(Self { context, registry, arbiters })
    }

    /// What the engine's actors share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.context.store
    }

    /// Whose deployment key this is; no mailbox, no database.
    pub fn caller(&self, key: &Key) -> Option<Caller> {
        self.context.directory.caller(&key.hash(), Utc::now())
    }

    /// Whose platform key this is; no mailbox, no database.
    pub fn manager(&self, key: &Key) -> Option<Manager> {
        self.context.directory.manager(&key.hash(), Utc::now())
    }

    /// Whether every deployment can serve.
    pub fn is_ready(&self) -> bool {
        self.registry.connected()
            && self.context.directory.entries().iter().all(|entry| entry.is_alive())
    }

    /// Asks the deployment whether a submission may go on. A deployment that
    /// died is rebuilt first. The rate is known unless it could not be asked.
    pub async fn admit(&self, entry: &Entry) -> (Option<RateState>, Result<Admission, Refusal>) {
        for _ in 0..2 {
            let Some(server) = self.context.accepted.try_take(self.context.config.max_executions)
            else {
                return (None, Err(Refusal::ServerBusy));
            };
            if let Some(address) = entry.address.load_full()
                && let Ok(admitted) = address.send(Admit { server }).await
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
        matches!(self.registry.send(Revive(id)).await, Ok(Ok(())))
    }

    /// Stores an admitted submission and starts it. When this returns `Ok`,
    /// it is durable. If it fails, place and permit are given back.
    ///
    /// # Errors
    /// The commit's.
    pub async fn accept(
        self: &Arc<Self>,
        caller: &Caller,
        admission: Admission,
        request: &Request,
        documents: &[DocumentRef],
    ) -> Result<row::Model, CommitError> {
        let row = self.new_row(caller, &admission, request, documents)?;
        let engine = Arc::clone(self);
        let entry = Arc::clone(&caller.entry);
        // A task of its own: a caller that goes away between the commit and
        // the start must not leave an accepted execution behind.
        let accepted = self.context.work.spawn(async move {
            let committed =
                engine.context.committer.commit(Write::Accept(Box::new(row.clone()))).await;
            match committed {
                Ok(()) => {
                    engine.begin(&entry, row.clone(), admission).await;
                    Ok(row)
                }
                Err(error) => {
                    entry.tell(Refund).await;
                    Err(error)
                }
            }
        });
        accepted.await.unwrap_or_else(|_| Err(CommitError::Unavailable("interrupted".into())))
    }

    /// A deployment that died after the commit finds the row in the store
    /// when it is rebuilt.
    async fn begin(&self, entry: &Entry, row: ExecutionRow, admission: Admission) {
        let Admission { revision, places } = admission;
        let begin = Begin { row: Box::new(row), revision, places };
        if !entry.tell(begin).await {
            self.revive(entry.id).await;
        }
    }

    fn new_row(
        &self,
        caller: &Caller,
        admission: &Admission,
        request: &Request,
        documents: &[DocumentRef],
    ) -> Result<row::Model, CommitError> {
        let refused = |error: serde_json::Error| CommitError::Refused(error.to_string());
        Ok(row::Model {
            id: Uuid::now_v7(),
            organisation_id: caller.entry.organisation_id,
            deployment_id: caller.entry.id,
            revision: admission.revision.number,
            key_id: Some(caller.key_id),
            status: Status::Pending,
            owner: Some(self.context.node),
            attempt: 1,
            recoveries: 0,
            cancel_requested: false,
            request: serde_json::to_string(request).map_err(refused)?,
            documents: serde_json::to_string(documents).map_err(refused)?,
            documents_total: i32::try_from(documents.len()).unwrap_or(i32::MAX),
            documents_failed: 0,
            steps_total: 0,
            steps_done: 0,
            error: None,
            result: None,
            result_hash: None,
            created_at: clock::now(),
            started_at: None,
            ended_at: None,
            expires_at: None,
        })
    }

    /// Where an execution of the deployment stands: from memory if it is live
    /// here, else by one read.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if it is not the deployment's.
    pub async fn progress(&self, entry: &Entry, id: Uuid) -> Result<Progress, StoreError> {
        if let Some(live) = entry.live.get(&id) {
            return Ok(live.progress.borrow().clone());
        }
        Ok(Progress::from_row(&self.context.store.execution(entry.id, id).await?))
    }

    /// Waits until the execution's progress is as `wanted`, or it has ended,
    /// or `limit` is over; returns where it stands then.
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
        let reached =
            |progress: &Progress| lifecycle::is_terminal(progress.status) || wanted(progress);
        loop {
            // The guard of the map must not be held across the wait.
            let watching = entry.live.get(&id).map(|live| live.progress.subscribe());
            let mut pause = deadline.min(Instant::now() + ELSEWHERE);
            if let Some(mut watching) = watching {
                let seen = tokio::time::timeout_at(deadline, watching.wait_for(&reached)).await;
                if let Ok(Ok(progress)) = seen {
                    return Ok(progress.clone());
                }
                // Ended between two looks, or given to another node.
                pause = Instant::now();
            }
            let progress = self.progress(entry, id).await?;
            if reached(&progress) || Instant::now() >= deadline {
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
    pub async fn cancel(&self, entry: &Entry, id: Uuid) -> Result<Progress, CancelError> {
        if !self.context.store.request_cancel(entry.id, id).await? {
            let row = self.context.store.execution(entry.id, id).await?;
            return match row.status {
                Status::Stopped => Ok(Progress::from_row(&row)),
                _ => Err(CancelError::Ended),
            };
        }
        entry.tell(Cancel(id)).await;
        Ok(self.progress(entry, id).await?)
    }

    /// The result of an execution that completed, as JSON text; none if it
    /// has none.
    ///
    /// # Errors
    /// The store's, or the document store's as [`StoreError::Unavailable`].
    pub async fn result(&self, entry: &Entry, id: Uuid) -> Result<Option<String>, StoreError> {
        let row = self.context.store.execution(entry.id, id).await?;
        let Some(hash) = row.result_hash.as_deref().and_then(|hash| hash.parse().ok()) else {
            return Ok(row.result);
        };
        let read = self.context.services.documents.read(hash, u64::MAX).await;
        let bytes = read.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let text = String::from_utf8(bytes.into())
            .map_err(|error| StoreError::Fault(error.to_string()))?;
        Ok(Some(text))
    }

    /// Brings a changed, new or deleted deployment into force.
    ///
    /// # Errors
    /// The store's; then the old state holds on.
    pub async fn refresh(&self, deployment_id: Uuid) -> Result<(), StoreError> {
        self.registry.send(Refresh(deployment_id)).await.map_err(|_| registry_away())?
    }

    /// Brings a new or changed platform key into force.
    ///
    /// # Errors
    /// If the registry is away.
    pub async fn put_manager(
        &self,
        key: platform_key::Model,
        organisation: organisation::Model,
    ) -> Result<(), StoreError> {
        self.registry.send(PutManager(key, organisation)).await.map_err(|_| registry_away())
    }

    /// Refuses new work and waits until what runs has ended, for at most the
    /// configured grace.
    pub async fn drain(&self) {
        self.context.start_draining();
        let deadline =
            Instant::now() + Duration::from_secs(self.context.config.drain_grace_seconds);
        let running = || {
            let entries = self.context.directory.entries();
            entries.iter().any(|entry| entry.live.iter().any(|live| live.has_started()))
        };
        while running() && Instant::now() < deadline {
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    /// Ends the engine: what still waits or runs is given back to the store,
    /// for any node to go on with.
    pub async fn stop(&self) {
        self.context.start_draining();
        self.context.hand_back.cancel();
        match self.context.store.hand_back(self.context.node).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "unfinished executions handed back"),
            Err(error) => {
                tracing::warn!(%error, "not handed back; taken over when the lease is over");
            }
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
