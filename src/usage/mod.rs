//! What callers use, counted in memory: for each deployment, key and minute,
//! one number for each counter.
//!
//! Counting takes no lock for longer than an addition and asks no database;
//! the engine takes what has gathered and adds it to the store every few
//! seconds.

pub mod counter;
pub mod histogram;
pub mod summary;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use dashmap::DashMap;
use uuid::Uuid;

use crate::clock;
use counter::{Counter, Tokens};

pub use millrace_entities::enums::Status;

/// Cells that may wait for the store. Each is one minute of one key, so this
/// is reached only when the store stays away while many keys are in use; what
/// comes beyond is not counted.
const MAX_CELLS: usize = 100_000;

/// Models that are told apart for one deployment; the others are counted
/// together.
const MAX_MODELS: usize = 32;

/// The name under which further models are counted.
const OTHER_MODELS: &str = "other";

/// Whose use it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subject {
    /// What was called.
    pub deployment_id: Uuid,
    /// By which key; the nil id where none is known.
    pub key_id: Uuid,
}

impl Subject {
    /// Use of a deployment, by a key if one is known.
    pub fn new(deployment_id: Uuid, key_id: Option<Uuid>) -> Self {
        Self { deployment_id, key_id: key_id.unwrap_or_default() }
    }
}

/// The use of one key in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Whose use.
    pub subject: Subject,
    /// The minute's first second, in seconds since 1970.
    pub minute: i64,
}

/// What was counted in one cell.
pub type Counts = HashMap<Counter, i64>;

/// What has been counted and not been taken to the store.
#[derive(Debug, Default)]
pub struct Usage {
    cells: DashMap<Cell, Counts>,
    /// Kept beside the map, which would lock all its shards to tell.
    count: AtomicUsize,
    full: AtomicBool,
    models: DashMap<Uuid, BTreeSet<Arc<str>>>,
}

impl Usage {
    /// A request of a known key was answered.
    pub fn request(&self, subject: Subject, status: u16) {
        self.add(subject, [(Counter::Requests(status), 1)]);
    }

    /// A submission was stored, with so many documents of so many bytes.
    pub fn accepted(&self, subject: Subject, documents: usize, bytes: u64) {
        if documents > 0 {
            let documents = i64::try_from(documents).unwrap_or(i64::MAX);
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            self.add(subject, [(Counter::Documents, documents), (Counter::Bytes, bytes)]);
        }
    }

    /// An execution ended; `time` is none if it never ran.
    pub fn ended(&self, subject: Subject, status: Status, time: Option<Duration>) {
        let ended = (Counter::Executions(status), 1);
        let time = time.map(|time| (Counter::Time(histogram::bucket(time)), 1));
        self.add(subject, std::iter::once(ended).chain(time));
    }

    /// A model was asked.
    pub fn tokens(&self, subject: Subject, model: &str, tokens: Tokens) {
        let model = self.known_model(subject.deployment_id, model);
        self.add(subject, tokens.counters(&model));
    }

    fn add(&self, subject: Subject, counts: impl IntoIterator<Item = (Counter, i64)>) {
        self.add_at(clock::now(), subject, counts);
    }

    fn add_at(
        &self,
        now: DateTime<Utc>,
        subject: Subject,
        counts: impl IntoIterator<Item = (Counter, i64)>,
    ) {
        let cell = Cell { subject, minute: now.timestamp().div_euclid(60) * 60 };
        if !self.cells.contains_key(&cell) && self.count.load(Ordering::Relaxed) >= MAX_CELLS {
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::error!("usage is not counted: too much waits for the store");
            }
            return;
        }
        let mut entry = self.cells.entry(cell).or_insert_with(|| {
            self.count.fetch_add(1, Ordering::Relaxed);
            Counts::new()
        });
        for (counter, count) in counts {
            let sum = entry.entry(counter).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// The model's name as it is counted: cut, printable, and one of a bounded
    /// number.
    fn known_model(&self, deployment_id: Uuid, model: &str) -> Arc<str> {
        let name = counter::model_name(model);
        let mut known = self.models.entry(deployment_id).or_default();
        if let Some(known) = known.get(name.as_str()) {
            return Arc::clone(known);
        }
        if known.len() >= MAX_MODELS {
            return OTHER_MODELS.into();
        }
        let name: Arc<str> = name.into();
        known.insert(Arc::clone(&name));
        name
    }

    /// Takes at most `limit` cells out. What is counted meanwhile is in a
    /// taken cell or in a new one, never in both and never in neither.
    pub fn take(&self, limit: usize) -> Vec<(Cell, Counts)> {
        let cells: Vec<Cell> = self.cells.iter().take(limit).map(|entry| *entry.key()).collect();
        let taken: Vec<_> = cells.into_iter().filter_map(|cell| self.cells.remove(&cell)).collect();
        self.count.fetch_sub(taken.len(), Ordering::Relaxed);
        self.full.store(false, Ordering::Relaxed);
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject() -> Subject {
        Subject::new(Uuid::now_v7(), None)
    }

    fn total(usage: &Usage, counter: &Counter) -> i64 {
        usage.take(usize::MAX).iter().filter_map(|(_, counts)| counts.get(counter)).sum()
    }

    #[test]
    fn what_is_counted_while_it_is_taken_is_neither_lost_nor_taken_twice() {
        let (usage, subject) = (Usage::default(), subject());
        let taken = std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| usage.request(subject, 200)));
            }
            let mut taken = 0;
            for _ in 0..1000 {
                taken += total(&usage, &Counter::Requests(200));
            }
            taken
        });
        assert_eq!(taken + total(&usage, &Counter::Requests(200)), 40_000);
        assert_eq!(usage.count.into_inner(), 0);
    }

    #[test]
    fn a_minute_is_a_cell_of_its_own() {
        let (usage, subject) = (Usage::default(), subject());
        for seconds in [0, 59, 60, -1] {
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            usage.add_at(at, subject, [(Counter::Bytes, 1)]);
        }
        let mut cells: Vec<_> = usage
            .take(usize::MAX)
            .into_iter()
            .map(|(cell, counts)| (cell.minute, counts[&Counter::Bytes]))
            .collect();
        cells.sort_unstable();
        assert_eq!(cells, [(-60, 1), (0, 2), (60, 1)]);
    }

    #[test]
    fn tokens_and_cost_are_counted_for_each_model_and_models_beyond_a_bound_together() {
        let (usage, subject) = (Usage::default(), subject());
        let tokens = Tokens { prompt: 3, completion: 2, embedding: 0, cost_nanodollars: 1500 };
        for number in 0..MAX_MODELS + 5 {
            usage.tokens(subject, &format!("model-{number}"), tokens);
        }
        usage.tokens(subject, "model-0", tokens);
        let mut summary = summary::Summary::default();
        for (_, counts) in usage.take(usize::MAX) {
            for (counter, count) in counts {
                summary.add(&counter, count);
            }
        }
        assert_eq!(summary.models.len(), MAX_MODELS + 1);
        let of = |model: &str| summary.models[model];
        assert_eq!((of("model-0").prompt, of("model-0").completion), (6, 4));
        assert_eq!((of(OTHER_MODELS).prompt, of(OTHER_MODELS).cost_nanodollars), (15, 7500));
    }

    #[test]
    fn memory_is_bounded_while_the_store_is_away() {
        let (usage, subject) = (Usage::default(), subject());
        for minute in 0..MAX_CELLS + 10 {
            let at = DateTime::from_timestamp(i64::try_from(minute * 60).unwrap(), 0).unwrap();
            usage.add_at(at, subject, [(Counter::Bytes, 1)]);
        }
        let cells = i64::try_from(MAX_CELLS).unwrap();
        assert_eq!(total(&usage, &Counter::Bytes), cells);
        usage.accepted(subject, 1, 1);
        assert_eq!(total(&usage, &Counter::Bytes), 1);
    }
}
