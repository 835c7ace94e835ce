//! Webhooks: receivers are told of the ends of executions.
//!
//! A delivery is committed together with the end that it tells of. The sender
//! of any node claims what is due, for a lease; what a dead node has claimed
//! is due again when the lease is over. So a receiver is told at least once.
//!
//! Each receiver has places of its own among the attempts at once: one that is
//! slow fills those, and the others go on.

mod attempt;
mod payload;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinSet};
use uuid::Uuid;

use super::Engine;
use super::audit::{Action, Author, Subject};
use super::context::Context;
use super::directory::Manager;
use super::plan::Faults;
use super::settings::Settings;
use crate::connections::{Connection, Connections};
use crate::store::StoreError;
use crate::store::webhooks::{Attempted, Receiver, Telling};

pub use payload::webhook_id;

/// Between two looks for what is due.
const TICK: Duration = Duration::from_secs(1);

/// Added to the time of an attempt: time in which what came of it is written.
const LEASE_MARGIN: Duration = Duration::from_secs(10);

/// Longest wait at the stop for attempts that are under way. What is left is
/// tried again when its lease is over.
const LAST_ATTEMPTS: Duration = Duration::from_secs(3);

impl Engine {
    /// Has a delivery made once more, at once, under its own id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn redeliver(
        &self,
        author: &Author,
        owner: &Manager,
        id: Uuid,
    ) -> Result<(), StoreError> {
        let subject = Subject {
            organisation_id: Some(owner.organisation_id),
            resource: "webhook-delivery",
            id,
            name: &webhook_id(id),
        };
        let entry = author.entry(Action::Redeliver, subject, &[]);
        self.store().redeliver(owner.organisation_id, id, entry).await?;
        self.context().told.notify_one();
        Ok(())
    }
}

/// What is wrong with a deployment's webhook: its connection must be there
/// when it is written, be `http`, and have a signing secret.
pub fn faults(connections: &Connections, org_id: &str, settings: &Settings) -> Faults {
    let takes = |name: &str| connections.get(org_id, name).is_some_and(|one| one.takes_webhooks());
    let missing = settings.webhook.iter().filter(|webhook| !takes(&webhook.connection));
    let cure = "there is no connection of this name and of kind http with `signing_secrets`";
    missing.map(|_| ("webhook.connection".to_owned(), cure.to_owned())).collect()
}

/// Sends until the engine hands back its work.
pub(super) async fn run(context: Arc<Context>) {
    let mut sender = Sender::new(Arc::clone(&context));
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = context.told.notified() => {}
            Some(ended) = sender.under_way.join_next_with_id() => sender.ended(ended),
            () = context.hand_back.cancelled() => break,
        }
        if let Err(error) = sender.turn().await {
            tracing::warn!(%error, "webhooks wait for the store");
        }
    }
    sender.finish().await;
}

struct Sender {
    context: Arc<Context>,
    under_way: JoinSet<Attempted>,
    /// Whom each attempt under way tells.
    receivers: HashMap<Id, Receiver>,
    /// What came of attempts, to be recorded. Nothing is claimed until it is,
    /// so there are never more than places.
    done: Vec<Attempted>,
    /// Where to go on among the receivers, if there was no place for all.
    place: Option<Receiver>,
}

impl Sender {
    fn new(context: Arc<Context>) -> Self {
        let (under_way, receivers) = (JoinSet::new(), HashMap::new());
        Self { context, under_way, receivers, done: Vec::new(), place: None }
    }

    /// Takes what came of an attempt. One that panicked is tried again when
    /// its lease is over.
    fn ended(&mut self, ended: Result<(Id, Attempted), JoinError>) {
        let id = match ended {
            Ok((id, attempted)) => {
                self.done.push(attempted);
                id
            }
            Err(error) => {
                tracing::error!("an attempt of a webhook panicked");
                error.id()
            }
        };
        self.receivers.remove(&id);
    }

    /// Records what has ended, then begins what is due.
    async fn turn(&mut self) -> Result<(), StoreError> {
        while let Some(ended) = self.under_way.try_join_next_with_id() {
            self.ended(ended);
        }
        self.record().await?;
        loop {
            let began_amid = self.place.is_some();
            let (due, rest) = self.context.store.due_receivers(self.place.take()).await?;
            self.claim(due).await?;
            if self.free() == 0 {
                return Ok(());
            }
            self.place = rest;
            if self.place.is_none() && !began_amid {
                return Ok(());
            }
        }
    }

    fn free(&self) -> usize {
        self.context.upkeep.webhooks.max_in_flight.saturating_sub(self.receivers.len())
    }

    async fn record(&mut self) -> Result<(), StoreError> {
        if self.done.is_empty() {
            return Ok(());
        }
        match self.context.store.record_attempts(self.done.clone()).await {
            Ok(()) => self.done.clear(),
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            // One of them is at fault, and must not hold up the others.
            Err(_) => {
                while let Some(attempted) = self.done.pop() {
                    let id = attempted.delivery_id;
                    match self.context.store.record_attempts(vec![attempted.clone()]).await {
                        Ok(()) => {}
                        Err(error @ StoreError::Unavailable(_)) => {
                            self.done.push(attempted);
                            return Err(error);
                        }
                        Err(error) => {
                            tracing::error!(delivery = %id, %error, "an attempt was not recorded");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Claims for those of the receivers that have free places, and begins
    /// the attempts.
    async fn claim(&mut self, due: Vec<Receiver>) -> Result<(), StoreError> {
        let config = &self.context.upkeep.webhooks;
        let places = due.into_iter().filter_map(|receiver| {
            let taken = self.receivers.values().filter(|one| **one == receiver).count();
            let free = config.max_per_receiver.saturating_sub(taken);
            (free > 0).then_some((receiver, free as u64))
        });
        let places: Vec<(Receiver, u64)> = places.collect();
        let free = self.free();
        if places.is_empty() || free == 0 {
            return Ok(());
        }
        let limit = Duration::from_secs(config.timeout_seconds.into());
        let lease = i64::try_from((limit + LEASE_MARGIN).as_millis()).unwrap_or(i64::MAX);
        let store = &self.context.store;
        let claimed = store.claim_deliveries(places, free as u64, lease).await?;
        if claimed.len() >= free {
            self.place = claimed.last().map(Receiver::of);
        }
        for telling in store.tellings(claimed).await? {
            self.begin(telling);
        }
        Ok(())
    }

    fn begin(&mut self, telling: Telling) {
        let receiver = Receiver::of(&telling.delivery);
        let context = Arc::clone(&self.context);
        let task = async move { attempt::make(&context, telling).await };
        let handle = self.under_way.spawn(task);
        self.receivers.insert(handle.id(), receiver);
    }

    /// Waits a little for what is under way, and records it.
    async fn finish(mut self) {
        let ending = async {
            while let Some(ended) = self.under_way.join_next_with_id().await {
                self.ended(ended);
            }
        };
        if tokio::time::timeout(LAST_ATTEMPTS, ending).await.is_err() {
            tracing::info!(count = self.under_way.len(), "attempts of webhooks were broken off");
        }
        if let Err(error) = self.record().await {
            tracing::warn!(%error, "the last attempts of webhooks are not recorded");
        }
    }
}

/// The connection that leads to a receiver, if there is one that can be used.
fn receiver(context: &Context, telling: &Telling) -> Option<Arc<Connection>> {
    let found = context.services.connections.get(&telling.org_id, &telling.delivery.connection);
    found.filter(|connection| matches!(connection.as_ref(), Connection::Http { .. }))
}
