//! Takes what was counted to the store: one task, one batch at a time.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::Engine;
use crate::store::usage::Counted;
use crate::store::{Store, StoreError};
use crate::usage::{Cell, Counts, Usage};

/// Cells of one batch.
const BATCH: usize = 1000;

/// Tries of a batch that the database refuses; with a store that is away,
/// tries do not count.
const MAX_REFUSALS: u32 = 20;

/// Those who may ask at once for a flush.
const ASKERS: usize = 8;

/// Longest wait for a flush that was asked for.
const PATIENCE: Duration = Duration::from_secs(10);

type Ask = oneshot::Sender<Result<(), StoreError>>;

/// The way to the task, which ends when this is gone.
pub struct Flusher(mpsc::Sender<Ask>);

impl Flusher {
    /// Starts the task, which flushes every `interval` and when it is asked.
    pub fn start(
        usage: Arc<Usage>,
        store: Store,
        node: Uuid,
        interval: Duration,
        work: &Handle,
    ) -> Self {
        let (asks, asked) = mpsc::channel(ASKERS);
        let task = Task { usage, store, node, sequence: 0, pending: None };
        work.spawn(task.run(interval, asked));
        Self(asks)
    }

    /// Flushes now, and waits until everything that was counted before is in
    /// the store.
    ///
    /// # Errors
    /// The store's; the counts stay, to be tried again.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let away = || StoreError::Unavailable("usage is not flushed".into());
        let (ask, flushed) = oneshot::channel();
        let asking = async {
            self.0.send(ask).await.map_err(|_| away())?;
            flushed.await.map_err(|_| away())?
        };
        tokio::time::timeout(PATIENCE, asking).await.map_err(|_| away())?
    }
}

impl Engine {
    /// What callers use is counted here.
    pub fn usage(&self) -> &Usage {
        &self.context.usage
    }

    /// Takes everything that was counted before to the store.
    ///
    /// # Errors
    /// The store's; the counts stay, to be tried again.
    pub async fn flush_usage(&self) -> Result<(), StoreError> {
        self.flusher.flush().await
    }
}

/// A batch on its way. It keeps its number until it is known to be in the
/// store: a second try adds nothing if the first was committed after all.
struct Pending {
    sequence: i64,
    counted: Vec<Counted>,
    refusals: u32,
}

struct Task {
    usage: Arc<Usage>,
    store: Store,
    node: Uuid,
    sequence: i64,
    pending: Option<Pending>,
}

impl Task {
    async fn run(mut self, interval: Duration, mut asked: mpsc::Receiver<Ask>) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ask = tokio::select! {
                _ = ticks.tick() => None,
                ask = asked.recv() => match ask {
                    Some(ask) => Some(ask),
                    None => return,
                },
            };
            let flushed = self.flush().await;
            match (ask, flushed) {
                // Who asked may be gone; the flush stands all the same.
                (Some(ask), flushed) => drop(ask.send(flushed)),
                (None, Err(error)) => tracing::warn!(%error, "usage cannot be stored yet"),
                (None, Ok(())) => {}
            }
        }
    }

    /// What is pending from before, then batches until one is not full: with
    /// it, all that was counted before this began is in the store.
    async fn flush(&mut self) -> Result<(), StoreError> {
        loop {
            let resumed = self.pending.is_some();
            let Some(mut batch) = self.pending.take().or_else(|| self.next()) else {
                return Ok(());
            };
            let counted = batch.counted.clone();
            let more = resumed || counted.len() == BATCH;
            match self.store.add_usage(self.node, batch.sequence, counted).await {
                Ok(()) if more => {}
                Ok(()) => return Ok(()),
                Err(error) => {
                    batch.refusals += u32::from(!matches!(error, StoreError::Unavailable(_)));
                    if batch.refusals < MAX_REFUSALS {
                        self.pending = Some(batch);
                        return Err(error);
                    }
                    tracing::error!(%error, "a batch of usage cannot be stored; it is not counted");
                }
            }
        }
    }

    fn next(&mut self) -> Option<Pending> {
        let taken = self.usage.take(BATCH);
        if taken.is_empty() {
            return None;
        }
        self.sequence += 1;
        let counted = taken.into_iter().map(counted).collect();
        Some(Pending { sequence: self.sequence, counted, refusals: 0 })
    }
}

fn counted((cell, counts): (Cell, Counts)) -> Counted {
    Counted {
        deployment_id: cell.subject.deployment_id,
        key_id: cell.subject.key_id,
        minute: cell.minute,
        counters: counts.into_iter().map(|(counter, sum)| (counter.to_string(), sum)).collect(),
    }
}
