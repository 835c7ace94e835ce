//! What a node knows of its own life: whether its writes reach the store, and
//! what an outage of the store left in doubt.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::context::Context;
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
    /// Whether the store knew no other node at the last sign.
    alone: bool,
    /// When this process was last awake.
    awake: Instant,
    /// When it woke last from so long a sleep that the store may have been
    /// there, and other nodes with it.
    woke: Option<Instant>,
}

impl Beats {
    fn wake(&mut self, now: Instant, lease: Duration) {
        if now.duration_since(self.awake) > lease / 2 {
            self.woke = Some(now);
        }
        self.awake = now;
    }
}

impl Default for Pulse {
    /// A node that was entered just now.
    fn default() -> Self {
        let now = Instant::now();
        let beats = Beats { last: now, sparing: None, alone: false, awake: now, woke: None };
        Self { beats: Mutex::new(beats), doubt: AtomicBool::new(false) }
    }
}

impl Pulse {
    /// Notes a sign of life. False if nodes that were silent for `lease` may
    /// live all the same: while this one could not reach the store, neither
    /// could they, and they get a lease to say so. `alone`: the store knew no
    /// other node.
    pub(super) fn beat(&self, now: Instant, lease: Duration, alone: bool) -> bool {
        let mut beats = self.beats();
        beats.alone = alone;
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
        now.duration_since(self.beats().last) <= lease
    }

    /// Whether no other node was there at the last sign of life, and this
    /// process has been awake ever since: one that was frozen does not know
    /// what came meanwhile.
    pub(super) fn was_alone(&self, now: Instant, lease: Duration) -> bool {
        let mut beats = self.beats();
        beats.wake(now, lease);
        beats.alone && beats.woke.is_none_or(|woke| woke <= beats.last)
    }

    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Notices how long this process slept, until the engine hands back its work.
pub(super) async fn watch(context: Arc<Context>) {
    while context.hand_back.run_until_cancelled(tokio::time::sleep(TICK / 2)).await.is_some() {
        context.pulse.beats().wake(Instant::now(), context.config.lease());
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
        assert!((1..10).all(|second| pulse.beat(start + TICK * second, LEASE, true)));
    }

    #[test]
    fn after_an_outage_others_get_a_lease_to_show_that_they_live() {
        let pulse = Pulse::default();
        let back = Instant::now() + LEASE * 2;
        assert!(!pulse.is_felt(back, LEASE));
        assert!(!pulse.beat(back, LEASE, true), "the silence was its own, too");
        assert!(pulse.is_felt(back, LEASE));
        assert!(!pulse.beat(back + TICK, LEASE, true));
        assert!((2..6).all(|second| !pulse.beat(back + TICK * second, LEASE, true)));
        assert!(pulse.beat(back + LEASE, LEASE, true));
    }

    #[test]
    fn only_a_node_that_was_alone_and_awake_knows_its_work() {
        let pulse = Pulse::default();
        let start = Instant::now();
        assert!(!pulse.was_alone(start, LEASE), "nothing is known before the first sign");
        pulse.beat(start, LEASE, true);
        // The store is away for long, and this process notices each second.
        assert!((1..30).all(|second| pulse.was_alone(start + TICK * second, LEASE)));
        let thawed = start + TICK * 30 + LEASE;
        assert!(!pulse.was_alone(thawed, LEASE));
        assert!(!pulse.was_alone(thawed + TICK, LEASE), "not before the next sign");
        pulse.beat(thawed + TICK, LEASE, true);
        assert!(pulse.was_alone(thawed + TICK, LEASE));
        pulse.beat(thawed + TICK * 2, LEASE, false);
        assert!(!pulse.was_alone(thawed + TICK * 2, LEASE));
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
