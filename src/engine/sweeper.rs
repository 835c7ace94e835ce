//! The sweeper: removes what has had its time, a little at a time.
//!
//! Every node sweeps; two that come upon the same thing do each other no harm.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::Engine;
use super::context::Context;
use crate::clock;
use crate::documents::sweep::{Found, Walk};
use crate::documents::{Hash, StoreError as DocumentError};
use crate::store::StoreError;
use crate::store::usage::Span;

/// Between two passes while there is more to remove.
const PAUSE: Duration = Duration::from_millis(200);

/// Entries of the document store that one pass walks over.
const STRIDE: usize = 2000;

/// Deployments whose counters one pass looks at.
const DEPLOYMENTS: usize = 20;

/// Time after which a flush of usage by a node that is gone is not tried
/// again.
const FLUSHES: TimeDelta = TimeDelta::days(1);

/// What one pass removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Executions that expired: their content.
    pub expired: u64,
    /// Executions that expired long ago: the rest of them.
    pub tombstones: u64,
    /// Stored bytes that nothing referred to.
    pub documents: u64,
    /// Parts of uploads.
    pub uploads: u64,
    /// Counters of usage.
    pub counters: u64,
    /// Revisions of deployments that were deleted.
    pub revisions: u64,
    /// Idempotency keys whose time was over.
    pub keys: u64,
    /// Deliveries of webhooks.
    pub deliveries: u64,
}

impl Swept {
    /// Whether a bound was reached, so that more is to be expected.
    fn reached(self, bound: u64) -> bool {
        [self.expired, self.tombstones, self.counters, self.revisions, self.keys, self.deliveries]
            .iter()
            .any(|count| *count >= bound)
    }
}

/// Why a pass was not completed; the next one goes on.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The document store.
    #[error(transparent)]
    Documents(#[from] DocumentError),
}

/// Where the passes stand that go through everything.
#[derive(Default)]
pub struct Sweeper {
    walk: Mutex<Option<Walk>>,
    deployment: Mutex<Uuid>,
}

impl Engine {
    /// One pass of the sweeper, beside those that it makes by itself.
    ///
    /// # Errors
    /// See [`SweepError`].
    pub async fn sweep_once(&self) -> Result<Swept, SweepError> {
        self.sweeper.once(&self.context).await
    }
}

/// Passes until the engine hands back its work. The first one waits too: a
/// start has enough to do.
pub(super) async fn run(context: Arc<Context>, sweeper: Arc<Sweeper>) {
    let interval = Duration::from_secs(context.upkeep.retention.sweep_seconds);
    let mut pause = interval;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.hand_back.cancelled() => return,
        }
        pause = match sweeper.once(&context).await {
            Ok(swept) if swept.reached(batch(&context)) => PAUSE,
            Ok(_) => interval,
            Err(error) => {
                tracing::warn!(%error, "a sweep was not completed");
                interval
            }
        };
    }
}

fn batch(context: &Context) -> u64 {
    context.upkeep.retention.batch as u64
}

impl Sweeper {
    /// One pass: at most a batch of each kind.
    ///
    /// # Errors
    /// See [`SweepError`].
    pub async fn once(&self, context: &Context) -> Result<Swept, SweepError> {
        let (store, limit, now) = (&context.store, batch(context), clock::now());
        let expired = store.remove_expired_content(now, limit).await?;
        let tombstones = days(context.upkeep.retention.tombstone_days);
        let told = days(context.upkeep.retention.webhook_days);
        let mut swept = Swept {
            expired: expired.executions,
            tombstones: store.remove_tombstones(before(now, tombstones), limit).await?,
            counters: self.counters(context, now).await?,
            revisions: store.remove_revisions(limit).await?,
            keys: store.remove_idempotency_keys(now, limit).await?,
            deliveries: store.remove_deliveries(before(now, told), limit).await?,
            ..Swept::default()
        };
        store.remove_flushes(before(now, FLUSHES).timestamp()).await?;
        // Bytes that have just lost a reference, and those that the walk
        // comes upon.
        let dereferenced = expired.hashes.iter().filter_map(|hash| hash.parse().ok()).collect();
        let found = self.stride(context).await?;
        swept.documents += remove(context, dereferenced, Vec::new()).await?;
        swept.documents += remove(context, found.documents, found.aside).await?;
        for upload in &found.uploads {
            context.services.documents.discard_upload(upload).await?;
            swept.uploads += 1;
        }
        if swept != Swept::default() {
            tracing::info!(
                expired = swept.expired,
                tombstones = swept.tombstones,
                documents = swept.documents,
                uploads = swept.uploads,
                counters = swept.counters,
                revisions = swept.revisions,
                keys = swept.keys,
                deliveries = swept.deliveries,
                "swept"
            );
        }
        Ok(swept)
    }

    /// Goes on with the walk through the document store. The walk is out of
    /// its place meanwhile: a pass beside this one begins one of its own.
    async fn stride(&self, context: &Context) -> Result<Found, DocumentError> {
        let documents = &context.services.documents;
        let standing = self.walk.lock().unwrap_or_else(PoisonError::into_inner).take();
        let walk = match standing {
            Some(walk) => Some(walk),
            None => documents.walk().await?,
        };
        let Some(mut walk) = walk else { return Ok(Found::default()) };
        match walk.next(STRIDE, grace(context)).await? {
            Some(found) => {
                *self.walk.lock().unwrap_or_else(PoisonError::into_inner) = Some(walk);
                Ok(found)
            }
            None => Ok(Found::default()),
        }
    }

    /// Counters whose time is over, and those of deleted deployments.
    async fn counters(&self, context: &Context, now: DateTime<Utc>) -> Result<u64, StoreError> {
        let (store, limit, kept) = (&context.store, batch(context), &context.upkeep.usage);
        let mut removed = 0;
        let ages = [(Span::Minute, kept.minute_days), (Span::Hour, kept.hour_days)];
        let forever = kept.day_days == 0;
        for (span, age) in ages.into_iter().chain((!forever).then_some((Span::Day, kept.day_days)))
        {
            let end = before(now, days(age)).timestamp();
            removed += store.remove_usage(span, end, limit).await?;
        }
        let end = before(now, days(kept.hour_days)).timestamp();
        let mut place = *self.deployment.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..DEPLOYMENTS {
            match store.next_counted(place).await? {
                Some((id, true)) => place = id,
                Some((id, false)) => {
                    let count = store.remove_usage_of(id, end, limit).await?;
                    removed += count;
                    if count >= limit {
                        break;
                    }
                    place = id;
                }
                None => {
                    place = Uuid::nil();
                    break;
                }
            }
        }
        *self.deployment.lock().unwrap_or_else(PoisonError::into_inner) = place;
        Ok(removed)
    }
}

/// Removes those of the bytes that are old and that nothing refers to. The
/// order is the proof: see [`crate::documents::sweep`].
async fn remove(
    context: &Context,
    documents: Vec<Hash>,
    mut aside: Vec<Hash>,
) -> Result<u64, SweepError> {
    let store = &context.services.documents;
    let mut removed = 0;
    // Most bytes are referred to: they are left where they are.
    let kept = referenced(context, &documents).await?;
    let loose = documents.into_iter().filter(|hash| !kept.contains(hash)).collect();
    aside.extend(store.set_aside(loose, grace(context)).await?);
    let old = store.restore_fresh(aside, grace(context)).await?;
    for some in old.chunks(context.upkeep.retention.batch) {
        let kept = referenced(context, some).await?;
        for hash in some {
            if kept.contains(hash) {
                store.restore(*hash).await?;
            } else {
                store.discard(*hash).await?;
                removed += 1;
            }
        }
    }
    Ok(removed)
}

async fn referenced(context: &Context, hashes: &[Hash]) -> Result<HashSet<Hash>, StoreError> {
    let mut found = HashSet::new();
    for some in hashes.chunks(context.upkeep.retention.batch) {
        let texts = some.iter().map(ToString::to_string).collect();
        let known = context.store.referenced(texts).await?;
        found.extend(known.iter().filter_map(|hash| hash.parse::<Hash>().ok()));
    }
    Ok(found)
}

fn grace(context: &Context) -> Duration {
    Duration::from_secs(context.upkeep.retention.grace_seconds)
}

fn days(count: u32) -> TimeDelta {
    TimeDelta::days(count.into())
}

/// What lies so far back; at least 1970.
fn before(now: DateTime<Utc>, age: TimeDelta) -> DateTime<Utc> {
    now.checked_sub_signed(age).unwrap_or_default().max(DateTime::UNIX_EPOCH)
}
