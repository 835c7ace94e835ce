//! The deployment actor: admission, turns and the live executions of one
//! deployment.
//!
//! Every decision is one synchronous turn of a handler. The actor may die at
//! any time: what must outlive it is in its [`Entry`] (slots, live
//! executions) or in the store (what waits), and the registry builds a new
//! one from both.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::{
    Actor, ActorContext as _, AsyncContext, Context as ActorContext, Handler, Message,
    MessageResponse,
};
use millrace_entities::execution;
use uuid::Uuid;

use super::admission::{Places, Slot};
use super::context::Context;
use super::directory::Entry;
use super::execution::{Execution, Work};
use super::limiter::{Limiter, RateState};
use super::live::Live;
use super::plan::Revision;
use crate::faults;

/// Rows above this size wait in the store instead of in memory.
const KEPT_REQUEST_BYTES: usize = 16 * 1024;

/// How often lost messages are made good.
const RECONCILE: Duration = Duration::from_secs(1);

/// Why a submission is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The server shuts down.
    Draining,
    /// The whole server is at its bound.
    ServerBusy,
    /// The deployment is switched off.
    Inactive,
    /// Too many requests; the time after which one passes.
    RateLimited(Duration),
    /// Too many executions wait.
    QueueFull,
    /// The actor is gone and could not be rebuilt in time.
    Unavailable,
}

/// A submission that may go on.
pub struct Admission {
    /// What it runs on.
    pub revision: Arc<Revision>,
    /// Its places, given back when dropped.
    pub places: Places,
    /// Whether it has a permit of the rate limit.
    pub metered: bool,
}

/// The answer to [`Admit`], with what is left of the limit. If who asked is
/// gone, the places in it are given back with it.
#[derive(MessageResponse)]
pub struct Admitted {
    /// What is left of the rate limit, whatever the answer.
    pub rate: RateState,
    /// May the submission go on?
    pub outcome: Result<Admission, Refusal>,
}

/// May a submission go on? `server` is its place in the whole server.
#[derive(Message)]
#[rtype(result = "Admitted")]
pub struct Admit {
    /// The place taken in the whole server.
    pub server: Slot,
    /// Whether it needs a permit of the rate limit.
    pub metered: bool,
}

/// An admitted submission failed by our fault: its permit comes back.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Refund;

/// An execution that the store has is to run.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Begin {
    /// Its row.
    pub row: Box<execution::Model>,
    /// What it runs on.
    pub revision: Arc<Revision>,
    /// Its places.
    pub places: Places,
}

/// An execution has ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Ended(pub Uuid);

/// An execution is to be stopped.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Cancel(pub Uuid);

/// The settings changed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Changed;

/// The deployment was deleted: what was accepted still ends, then the actor.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Retire;

/// What is left of the rate limit?
#[derive(Message)]
#[rtype(result = "RateLeft")]
pub struct AskRate;

/// The answer to [`AskRate`].
#[derive(MessageResponse)]
pub struct RateLeft(pub RateState);

struct Waiting {
    id: Uuid,
    work: Work,
    live: Arc<Live>,
    revision: Arc<Revision>,
    places: Places,
}

/// The actor.
pub struct Deployment {
    context: Arc<Context>,
    entry: Arc<Entry>,
    limiter: Limiter,
    running: HashSet<Uuid>,
    waiting: VecDeque<Waiting>,
    retired: bool,
}

impl Deployment {
    /// An actor for `entry`. Executions that a former actor started go on and
    /// count as running.
    pub fn new(context: Arc<Context>, entry: Arc<Entry>) -> Self {
        let limiter = Limiter::new(entry.revision.load().settings.rate_limit);
        let running =
            entry.live.iter().filter(|live| live.has_started()).map(|live| *live.key()).collect();
        Self { context, entry, limiter, running, waiting: VecDeque::new(), retired: false }
    }

    fn admit(&mut self, server: Slot, metered: bool) -> Result<Admission, Refusal> {
        if self.context.is_draining() {
            return Err(Refusal::Draining);
        }
        if !self.entry.is_active() {
            return Err(Refusal::Inactive);
        }
        let revision = self.entry.revision.load_full();
        // The place first: a submission that finds no place costs no permit.
        let deployment = self
            .entry
            .accepted
            .try_take(revision.settings.max_accepted())
            .ok_or(Refusal::QueueFull)?;
        if metered {
            self.limiter.try_acquire().map_err(Refusal::RateLimited)?;
        }
        Ok(Admission { revision, places: Places { server, deployment }, metered })
    }

    /// Starts what waits, as far as there is room.
    fn take_turns(&mut self) {
        let most = self.entry.revision.load().settings.max_concurrency as usize;
        while self.running.len() < most && !self.context.is_draining() {
            let Some(next) = self.waiting.pop_front() else { return };
            self.running.insert(next.id);
            self.launch(next);
        }
    }

    fn launch(&self, next: Waiting) {
        next.live.set_started();
        let execution = Execution::new(
            Arc::clone(&self.context),
            Arc::clone(&self.entry),
            next.revision,
            next.live,
            next.work,
            next.places,
        );
        if let Some(arbiter) = self.context.arbiter() {
            Execution::start_in_arbiter(arbiter, move |_| execution);
        }
    }

    /// Ends are announced by message; should one be lost with a former actor,
    /// the live map still tells.
    fn reconcile(&mut self) {
        let live = &self.entry.live;
        self.running.retain(|id| live.contains_key(id));
        self.take_turns();
    }
}

impl Actor for Deployment {
    type Context = ActorContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(RECONCILE, |actor, ctx| {
            actor.reconcile();
            if actor.retired && actor.running.is_empty() && actor.waiting.is_empty() {
                actor.context.directory.forget(actor.entry.id);
                ctx.stop();
            }
        });
    }
}

impl Handler<Admit> for Deployment {
    type Result = Admitted;

    fn handle(&mut self, message: Admit, _: &mut Self::Context) -> Admitted {
        faults::pass(faults::DEPLOYMENT_ADMIT);
        let outcome = self.admit(message.server, message.metered);
        Admitted { rate: self.limiter.state(), outcome }
    }
}

impl Handler<Refund> for Deployment {
    type Result = ();

    fn handle(&mut self, _: Refund, _: &mut Self::Context) {
        self.limiter.refund();
    }
}

impl Handler<AskRate> for Deployment {
    type Result = RateLeft;

    fn handle(&mut self, _: AskRate, _: &mut Self::Context) -> RateLeft {
        RateLeft(self.limiter.state())
    }
}

impl Handler<Begin> for Deployment {
    type Result = ();

    fn handle(&mut self, message: Begin, _: &mut Self::Context) {
        let Begin { row, revision, places } = message;
        let id = row.id;
        let live = Arc::clone(&self.entry.live.entry(id).or_insert_with(|| Live::new(&row)));
        // The store may tell again of what is known already. What a former
        // actor left waiting is in the live map, but in no queue.
        if live.has_started() || self.waiting.iter().any(|waiting| waiting.id == id) {
            return;
        }
        let work = if row.request.len() <= KEPT_REQUEST_BYTES {
            Work::Row(row)
        } else {
            Work::InStore { id, attempt: row.attempt }
        };
        self.waiting.push_back(Waiting { id, work, live, revision, places });
        self.take_turns();
    }
}

impl Handler<Ended> for Deployment {
    type Result = ();

    fn handle(&mut self, message: Ended, _: &mut Self::Context) {
        self.running.remove(&message.0);
        self.take_turns();
    }
}

impl Handler<Cancel> for Deployment {
    type Result = ();

    /// What waits is started out of turn: it sees that it is cancelled, runs
    /// no step and ends.
    fn handle(&mut self, message: Cancel, _: &mut Self::Context) {
        if let Some(live) = self.entry.live.get(&message.0) {
            live.cancel.cancel();
        }
        let place = self.waiting.iter().position(|waiting| waiting.id == message.0);
        if let Some(waiting) = place.and_then(|place| self.waiting.remove(place)) {
            self.launch(waiting);
        }
    }
}

impl Handler<Retire> for Deployment {
    type Result = ();

    fn handle(&mut self, _: Retire, _: &mut Self::Context) {
        self.retired = true;
    }
}

impl Handler<Changed> for Deployment {
    type Result = ();

    fn handle(&mut self, _: Changed, _: &mut Self::Context) {
        self.limiter.change(self.entry.revision.load().settings.rate_limit);
        self.take_turns();
    }
}
