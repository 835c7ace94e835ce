//! What a node knows of its own life: whether its writes reach the store, and
//! what an outage of the store left in doubt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::recovery::TICK;

/// Signs of life that reached the store, by this node's clock.
pub struct Pulse {
    beats: Mutex<Beats>,
    doubt: AtomicBool,
}

struct Beats {
    last: Instant,
    /// Until when other nodes are not counted as gone.
    sparing: Option<Instant>,
}

impl Default for Pulse {
    /// A node that was entered just now.
    fn default() -> Self {
        let beats = Beats { last: Instant::now(), sparing: None };
        Self { beats: Mutex::new(beats), doubt: AtomicBool::new(false) }
    }
}

impl Pulse {
    /// Notes a sign of life. False if nodes that were silent for `lease` may
    /// live all the same: while this one could not reach the store, neither
    /// could they, and they get a lease to say so.
    pub(super) fn beat(&self, now: Instant, lease: Duration) -> bool {
        let mut beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(beats.last) > (lease / 2).max(TICK * 2) {
            beats.sparing = Some(now + lease);
        }
        beats.last = now;
        if beats.sparing.is_some_and(|until| until <= now) {
            beats.sparing = None;
        }
        beats.sparing.is_none()
    }

    /// Whether a sign of life reached the store within `lease`.
    pub(super) fn is_felt(&self, now: Instant, lease: Duration) -> bool {
        let beats = self.beats.lock().unwrap_or_else(PoisonError::into_inner);
        now.duration_since(beats.last) <= lease
    }

    /// Notes that an acceptance failed and may have been committed.
    pub(super) fn doubt(&self) {
        self.doubt.store(true, Ordering::Release);
    }

    /// Whether something was in doubt since the last call.
    pub(super) fn take_doubt(&self) -> bool {
        self.doubt.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(6);

    #[test]
    fn a_node_in_steady_life_counts_silent_ones_as_gone() {
        let pulse = Pulse::default();
        let start = Instant::now();
        assert!((1..10).all(|second| pulse.beat(start + TICK * second, LEASE)));
    }

    #[test]
    fn after_an_outage_others_get_a_lease_to_show_that_they_live() {
        let pulse = Pulse::default();
        let back = Instant::now() + LEASE * 2;
        assert!(!pulse.is_felt(back, LEASE));
        assert!(!pulse.beat(back, LEASE), "the silence was its own, too");
        assert!(pulse.is_felt(back, LEASE));
        assert!(!pulse.beat(back + TICK, LEASE));
        assert!((2..6).all(|second| !pulse.beat(back + TICK * second, LEASE)));
        assert!(pulse.beat(back + LEASE, LEASE));
    }

    #[test]
    fn a_doubt_is_taken_once() {
        let pulse = Pulse::default();
        assert!(!pulse.take_doubt());
        pulse.doubt();
        assert!(pulse.take_doubt());
        assert!(!pulse.take_doubt());
    }
}
