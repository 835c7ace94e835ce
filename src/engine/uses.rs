//! When keys were used last: marked in memory by each request, kept in the
//! store every few seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use uuid::Uuid;

use super::Engine;
use super::context::Context;
use crate::store::StoreError;

/// Between two writes to the store.
const FLUSH: Duration = Duration::from_secs(5);

/// Last uses that the store may not have yet, in microseconds of Unix time.
#[derive(Default)]
pub struct Uses {
    marks: DashMap<Uuid, AtomicI64>,
}

impl Uses {
    /// Says that a key is used. A key in steady use costs one atomic.
    pub(super) fn mark(&self, key_id: Uuid, now: DateTime<Utc>) {
        let now = now.timestamp_micros();
        if let Some(mark) = self.marks.get(&key_id) {
            mark.fetch_max(now, Ordering::Relaxed);
            return;
        }
        self.marks.entry(key_id).or_default().fetch_max(now, Ordering::Relaxed);
    }

    fn of(&self, key_id: Uuid) -> Option<DateTime<Utc>> {
        let mark = self.marks.get(&key_id)?;
        DateTime::from_timestamp_micros(mark.load(Ordering::Relaxed))
    }

    /// Keeps in the store what was marked, and forgets what has not been
    /// marked again since.
    ///
    /// # Errors
    /// The store's; then the marks stay.
    async fn flush(&self, context: &Context) -> Result<(), StoreError> {
        let marked: Vec<(Uuid, i64)> = self
            .marks
            .iter()
            .map(|mark| (*mark.key(), mark.value().load(Ordering::Relaxed)))
            .collect();
        if marked.is_empty() {
            return Ok(());
        }
        let time = |micros| DateTime::from_timestamp_micros(micros);
        let uses = marked.iter().filter_map(|(id, micros)| Some((*id, time(*micros)?)));
        context.store.record_uses(uses.collect()).await?;
        for (id, micros) in marked {
            self.marks.remove_if(&id, |_, mark| mark.load(Ordering::Relaxed) == micros);
        }
        Ok(())
    }
}

/// Keeps last uses every few seconds until the engine hands back its work.
pub(super) async fn run(context: Arc<Context>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(FLUSH) => keep(&context).await,
            () = context.hand_back.cancelled() => return,
        }
    }
}

/// Keeps last uses now.
pub(super) async fn keep(context: &Context) {
    if let Err(error) = context.directory.uses.flush(context).await {
        tracing::warn!(%error, "last uses of keys are not kept yet");
    }
}

impl Engine {
    /// When each of these keys was used last, this node's latest uses
    /// included; at most a page of keys at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn last_uses(
        &self,
        keys: Vec<Uuid>,
    ) -> Result<HashMap<Uuid, DateTime<Utc>>, StoreError> {
        let mut uses = self.store().last_uses(keys.clone()).await?;
        for (id, here) in keys.iter().filter_map(|id| Some((*id, self.marked(*id)?))) {
            let known = uses.entry(id).or_insert(here);
            *known = here.max(*known);
        }
        Ok(uses)
    }

    fn marked(&self, key_id: Uuid) -> Option<DateTime<Utc>> {
        self.context().directory.uses.of(key_id)
    }
}
