//! The key registry actor: the only writer of the directory, and the one who
//! builds deployment actors, first and again.
//!
//! Its messages are handled one after the other, each to its end: what an
//! older read of the store says can never overwrite a newer one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix::fut::{self, ActorFutureExt};
use actix::prelude::{
    Actor, AsyncContext, AtomicResponse, Context as ActorContext, Handler, Message, WrapFuture,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::context::Context;
use super::deployment::{Changed, Deployment, Retire};
use super::directory::Entry;
use super::plan::Revision;
use super::recovery;
use crate::store::deployments::Deployed;
use crate::store::{CHUNK, StoreError};

/// How often the registry looks for deployment actors that died.
const WATCH: Duration = Duration::from_secs(1);

/// The wait after a second death in a row; it doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(50);

/// The longest wait between two rebuilds.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// A deployment that lived so long starts counting its deaths anew.
const CALM: Duration = Duration::from_secs(60);

type Outcome = Result<(), StoreError>;

/// Makes the directory what the store says: every deployment and platform key.
#[derive(Message)]
#[rtype(result = "Outcome")]
pub struct Load;

/// Reads a deployment anew from the store after a change. When the answer is
/// there, the change holds for the next request.
#[derive(Message)]
#[rtype(result = "Outcome")]
pub struct Refresh(pub Uuid);

/// Reads many deployments anew from the store after one change of all of them.
#[derive(Message)]
#[rtype(result = "Outcome")]
pub struct RefreshMany(pub Vec<Uuid>);

/// Builds a deployment's actor again if it is gone.
#[derive(Message)]
#[rtype(result = "Outcome")]
pub struct Revive(pub Uuid);

/// Reads the platform keys of an organisation anew from the store after a
/// change. When the answer is there, the change holds for the next request.
#[derive(Message)]
#[rtype(result = "Outcome")]
pub struct RefreshManagers(pub Uuid);

struct Deaths {
    count: u32,
    last: Instant,
}

/// The actor.
pub struct KeyRegistry {
    context: Arc<Context>,
    deaths: HashMap<Uuid, Deaths>,
}

impl KeyRegistry {
    /// A registry over the context's directory.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context, deaths: HashMap::new() }
    }

    /// Whether a deployment that died may be built again now.
    fn may_rebuild(&mut self, id: Uuid) -> Outcome {
        let now = Instant::now();
        let deaths = self.deaths.entry(id).or_insert(Deaths { count: 0, last: now });
        if now - deaths.last > CALM {
            deaths.count = 0;
        }
        if deaths.count > 0 {
            let doubled = FIRST_BACK_OFF.saturating_mul(1 << (deaths.count - 1).min(10));
            if now - deaths.last < doubled.min(LONGEST_BACK_OFF) {
                return Err(StoreError::Unavailable("a deployment dies again and again".into()));
            }
        }
        deaths.count += 1;
        deaths.last = now;
        Ok(())
    }
}

impl Actor for KeyRegistry {
    type Context = ActorContext<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(WATCH, |actor, ctx| {
            for entry in actor.context.directory.entries() {
                if !entry.is_alive() {
                    ctx.notify(Revive(entry.id));
                }
            }
        });
    }
}

impl Handler<Load> for KeyRegistry {
    type Result = AtomicResponse<Self, Outcome>;

    fn handle(&mut self, _: Load, _: &mut Self::Context) -> Self::Result {
        let context = Arc::clone(&self.context);
        let load = async move {
            load_managers(&context).await?;
            load_deployments(&context).await
        };
        AtomicResponse::new(Box::pin(load.into_actor(self)))
    }
}

impl Handler<Refresh> for KeyRegistry {
    type Result = AtomicResponse<Self, Outcome>;

    fn handle(&mut self, message: Refresh, _: &mut Self::Context) -> Self::Result {
        let context = Arc::clone(&self.context);
        let refresh = async move {
            let found = context.store.deployed(Some(vec![message.0])).await?;
            match found.first() {
                Some(deployed) => enter(&context, deployed).await?,
                None => retire(&context, message.0).await,
            }
            Ok(())
        };
        AtomicResponse::new(Box::pin(refresh.into_actor(self)))
    }
}

impl Handler<RefreshMany> for KeyRegistry {
    type Result = AtomicResponse<Self, Outcome>;

    fn handle(&mut self, message: RefreshMany, _: &mut Self::Context) -> Self::Result {
        let context = Arc::clone(&self.context);
        let refresh = async move {
            // All are read before the first is entered: while the store is
            // away, all stay as they were.
            let mut found = Vec::with_capacity(message.0.len());
            for ids in message.0.chunks(CHUNK) {
                found.extend(context.store.deployed(Some(ids.to_vec())).await?);
            }
            for deployed in &found {
                enter(&context, deployed).await?;
            }
            Ok(())
        };
        AtomicResponse::new(Box::pin(refresh.into_actor(self)))
    }
}

impl Handler<Revive> for KeyRegistry {
    type Result = AtomicResponse<Self, Outcome>;

    fn handle(&mut self, message: Revive, _: &mut Self::Context) -> Self::Result {
        let Some(entry) = self.context.directory.entry(message.0) else {
            return AtomicResponse::new(Box::pin(fut::ready(Err(StoreError::NotFound))));
        };
        if entry.is_alive() {
            return AtomicResponse::new(Box::pin(fut::ready(Ok(()))));
        }
        if let Err(error) = self.may_rebuild(entry.id) {
            return AtomicResponse::new(Box::pin(fut::ready(Err(error))));
        }
        let context = Arc::clone(&self.context);
        let rebuild = async move {
            // First what waits, then the actor: while the store is away the
            // deployment stays down rather than forget what it had accepted.
            let backlog = context.store.unfinished(context.node, Some(entry.id)).await?;
            start(&context, &entry);
            tracing::warn!(deployment = %entry.public_id, backlog = backlog.len(), "deployment actor rebuilt");
            recovery::dispatch(&context, backlog).await;
            Ok(())
        };
        AtomicResponse::new(Box::pin(rebuild.into_actor(self).map(|outcome, _, _| outcome)))
    }
}

impl Handler<RefreshManagers> for KeyRegistry {
    type Result = AtomicResponse<Self, Outcome>;

    fn handle(&mut self, message: RefreshManagers, _: &mut Self::Context) -> Self::Result {
        let context = Arc::clone(&self.context);
        let refresh = async move {
            let found = context.store.managers(Some(message.0)).await?;
            context.directory.put_managers(message.0, &found);
            Ok(())
        };
        AtomicResponse::new(Box::pin(refresh.into_actor(self)))
    }
}

async fn load_managers(context: &Context) -> Outcome {
    let mut found: HashMap<Uuid, Vec<_>> = HashMap::new();
    for (key, organisation) in context.store.managers(None).await? {
        found.entry(organisation.id).or_default().push((key, organisation));
    }
    for gone in context.directory.organisations() {
        found.entry(gone).or_default();
    }
    for (organisation_id, keys) in found {
        context.directory.put_managers(organisation_id, &keys);
    }
    Ok(())
}

async fn load_deployments(context: &Arc<Context>) -> Outcome {
    let found = context.store.deployed(None).await?;
    let mut known: HashSet<Uuid> =
        context.directory.entries().iter().map(|entry| entry.id).collect();
    for deployed in found {
        known.remove(&deployed.deployment.id);
        enter(context, &deployed).await?;
    }
    for gone in known {
        retire(context, gone).await;
    }
    Ok(())
}

/// Takes a deployment into the directory. A known one keeps its actor, its
/// live executions and its counts.
async fn enter(context: &Arc<Context>, deployed: &Deployed) -> Outcome {
    let row = &deployed.deployment;
    let revision = Revision::from_row(deployed.revision.clone())
        .map_err(|error| StoreError::Fault(error.to_string()))?;
    let directory = &context.directory;
    match directory.entry(row.id) {
        Some(known) => {
            known.revision.store(Arc::new(revision));
            known.api_name.store(Arc::new(row.api_name.clone()));
            known.active.store(row.is_active, Ordering::Release);
            directory.put_keys(row.id, &deployed.keys);
            known.tell(Changed).await;
        }
        None => {
            let entry = Arc::new(Entry::new(row, &deployed.org_id, revision));
            start(context, &entry);
            directory.put_entry(entry);
            directory.put_keys(row.id, &deployed.keys);
        }
    }
    Ok(())
}

/// Takes a deployment out. Its actor ends after its last execution.
async fn retire(context: &Context, id: Uuid) {
    if let Some(entry) = context.directory.retire(id)
        && !entry.tell(Retire).await
    {
        context.directory.forget(id);
    }
}

fn start(context: &Arc<Context>, entry: &Arc<Entry>) {
    let Some(arbiter) = context.arbiter() else { return };
    let actor = Deployment::new(Arc::clone(context), Arc::clone(entry));
    let address = Deployment::start_in_arbiter(arbiter, move |_| actor);
    entry.address.store(Some(Arc::new(address)));
}
