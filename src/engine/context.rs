//! What the engine's actors share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actix::ArbiterHandle;
use dashmap::DashSet;
use millrace_entities::execution;
use sea_orm::DbBackend;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::admission::Gauge;
use super::directory::Directory;
use super::lifecycle;
use super::live::Live;
use super::pulse::Pulse;
use crate::config::{EngineConfig, UpkeepConfig};
use crate::steps::Services;
use crate::store::Store;
use crate::store::committer::{Claim, Committer};
use crate::usage::Usage;

/// Everything an actor of the engine may reach.
pub struct Context {
    /// `[engine]`
    pub config: EngineConfig,
    /// `[usage]`, `[retention]` and `[webhooks]`
    pub upkeep: UpkeepConfig,
    /// This life of this process, as the store knows it.
    pub node: Uuid,
    /// Every query, for work that no request waits for.
    pub store: Store,
    /// Every hot write.
    pub committer: Committer,
    /// What steps share.
    pub services: Arc<Services>,
    /// The runtime that drives steps.
    pub work: Handle,
    /// Keys, names and deployments.
    pub directory: Arc<Directory>,
    /// Executions accepted and not ended, in the whole server.
    pub accepted: Gauge,
    /// Acceptances between their commit and their start.
    pub accepting: DashSet<Uuid>,
    /// What callers used, on its way to the store.
    pub usage: Arc<Usage>,
    /// The lives of executions, until each has ended or was handed back, and
    /// the sender of webhooks.
    pub lives: TaskTracker,
    /// Whether the store is felt to be there.
    pub pulse: Pulse,
    /// Wakes the sender of webhooks: there is something to tell.
    pub told: Notify,
    /// Cancelled when running work must be handed back at once.
    pub hand_back: CancellationToken,
    /// Cancelled when new work is refused from now on.
    pub draining: CancellationToken,
    /// Cancelled when draining is over: who still waits for something is
    /// answered with what there is.
    pub closing: CancellationToken,
    arbiters: Vec<ArbiterHandle>,
    next_arbiter: AtomicUsize,
}

impl Context {
    /// Puts the parts together.
    #[expect(clippy::too_many_arguments, reason = "each part is one of the engine's own")]
    pub fn new(
        config: EngineConfig,
        upkeep: UpkeepConfig,
        node: Uuid,
        store: Store,
        committer: Committer,
        services: Arc<Services>,
        work: Handle,
        directory: Arc<Directory>,
        arbiters: Vec<ArbiterHandle>,
    ) -> Self {
        Self {
            config,
            upkeep,
            node,
            store,
            committer,
            services,
            work,
            directory,
            accepted: Gauge::default(),
            accepting: DashSet::new(),
            usage: Arc::default(),
            lives: TaskTracker::new(),
            pulse: Pulse::default(),
            told: Notify::new(),
            hand_back: CancellationToken::new(),
            draining: CancellationToken::new(),
            closing: CancellationToken::new(),
            arbiters,
            next_arbiter: AtomicUsize::new(0),
        }
    }

    /// Whether new work is refused.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Refuses new work from now on.
    pub fn start_draining(&self) {
        self.draining.cancel();
    }

    /// The thread for the next actor, in turn.
    pub fn arbiter(&self) -> Option<&ArbiterHandle> {
        let turn = self.next_arbiter.fetch_add(1, Ordering::Relaxed);
        self.arbiters.get(turn % self.arbiters.len().max(1))
    }

    /// Whether the store heard of this node within its lease.
    pub fn is_felt(&self) -> bool {
        self.pulse.is_felt(Instant::now(), self.config.lease())
    }

    /// Whether nobody else can have gone on with what this node runs: it was
    /// not handed back, and no lease is over.
    fn holds_its_work(&self) -> bool {
        !self.hand_back.is_cancelled() && (self.is_alone() || self.is_felt())
    }

    /// Whether where `live` stands can be told from memory.
    pub fn can_tell(&self, live: &Live) -> bool {
        self.holds_its_work() && (self.is_alone() || live.is_settled())
    }

    /// On SQLite there is no other node.
    fn is_alone(&self) -> bool {
        self.store.backend() == DbBackend::Sqlite
    }

    /// Whether what this node knows of its work can be told while the store is
    /// away: no other node was there that could have gone on with it.
    pub fn knows_its_work(&self) -> bool {
        self.pulse.was_alone(Instant::now(), self.config.lease())
    }

    /// Whether an execution is this node's to go on with.
    pub fn owns(&self, row: &execution::Model) -> bool {
        row.owner == Some(self.node) && !lifecycle::is_terminal(row.status)
    }

    /// Says that an execution is being accepted, until the value is dropped:
    /// whoever accepts it also begins it.
    pub fn accepting(self: &Arc<Self>, id: Uuid) -> Accepting {
        self.accepting.insert(id);
        Accepting { context: Arc::clone(self), id }
    }

    /// This node's right to write to an execution.
    pub fn claim(&self, execution_id: Uuid, attempt: i32) -> Claim {
        Claim { execution_id, owner: self.node, attempt }
    }
}

/// An execution that is being accepted.
pub struct Accepting {
    context: Arc<Context>,
    id: Uuid,
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.context.accepting.remove(&self.id);
    }
}
