//! Bounds on what is taken on, counted before any message is sent: mailboxes
//! bound nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of things in progress. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Gauge(Arc<AtomicUsize>);

/// One thing in progress; gives its place back when it is dropped.
#[derive(Debug)]
pub struct Slot(Gauge);

impl Gauge {
    /// Takes a place if fewer than `limit` are taken.
    pub fn try_take(&self, limit: usize) -> Option<Slot> {
        let room = |taken| (taken < limit).then_some(taken + 1);
        self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, room).ok()?;
        Some(Slot(self.clone()))
    }

    /// Takes a place in any case, for work that was accepted long ago.
    pub fn take(&self) -> Slot {
        self.0.fetch_add(1, Ordering::AcqRel);
        Slot(self.clone())
    }

    /// Places taken.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The places an execution holds from its admission to its end.
#[derive(Debug)]
pub struct Places {
    /// In the whole server.
    pub server: Slot,
    /// In its deployment.
    pub deployment: Slot,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_gives_exactly_its_limit_and_takes_places_back() {
        let gauge = Gauge::default();
        let first = gauge.try_take(2);
        let second = gauge.try_take(2);
        assert!(first.is_some() && second.is_some());
        assert!(gauge.try_take(2).is_none());
        drop(first);
        assert!(gauge.try_take(2).is_some());
        assert_eq!(gauge.taken(), 1);
    }

    #[test]
    fn threads_that_race_never_take_more_than_the_limit() {
        let gauge = Gauge::default();
        let racers: Vec<_> = (0..4)
            .map(|_| {
                let gauge = gauge.clone();
                std::thread::spawn(move || (0..100).filter_map(|_| gauge.try_take(150)).collect())
            })
            .collect();
        let taken: Vec<Vec<Slot>> = racers.into_iter().map(|racer| racer.join().unwrap()).collect();
        assert_eq!(taken.iter().map(Vec::len).sum::<usize>(), 150);
    }
}
