//! What is done to the servers, and when: drawn from a seed before the run, so
//! that a seed gives the same plan again.

use std::time::Duration;

use fastrand::Rng;

/// The silence after which a node of the run counts as gone.
pub const LEASE: Duration = Duration::from_secs(2);

/// What is done to a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blow {
    /// SIGKILL, and a start.
    Kill,
    /// SIGKILL, and another so long after the start began, and a start.
    KillTwice(Duration),
    /// SIGSTOP for so long.
    Pause(Duration),
    /// SIGTERM, and a start once it has ended.
    Terminate,
}

impl Blow {
    /// SIGKILLs in it.
    pub const fn kills(self) -> usize {
        match self {
            Self::Kill => 1,
            Self::KillTwice(_) => 2,
            _ => 0,
        }
    }
}

/// A blow after some time of rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disturbance {
    pub rest: Duration,
    pub node: usize,
    pub blow: Blow,
}

fn millis(rng: &mut Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.u64(range))
}

/// At least `count` SIGKILLs of one of so many nodes, and pauses and
/// terminations between them.
pub fn kills(seed: u64, count: usize, nodes: usize) -> Vec<Disturbance> {
    let mut rng = Rng::with_seed(seed);
    let mut plan = Vec::new();
    let mut killed = 0;
    while killed < count {
        let blow = match rng.u32(0..100) {
            0..70 => Blow::Kill,
            70..80 => Blow::KillTwice(millis(&mut rng, 0..600)),
            80..87 => Blow::Pause(millis(&mut rng, 50..1500)),
            87..90 => Blow::Pause(LEASE + millis(&mut rng, 500..2000)),
            _ => Blow::Terminate,
        };
        killed += blow.kills();
        plan.push(Disturbance { rest: millis(&mut rng, 0..1500), node: rng.usize(0..nodes), blow });
    }
    plan
}

#[test]
fn a_seed_gives_the_same_plan_again_and_another_one_another() {
    assert_eq!(kills(7, 100, 2), kills(7, 100, 2));
    assert_ne!(kills(7, 100, 2), kills(8, 100, 2));
    let killed: usize = kills(7, 100, 2).iter().map(|of| of.blow.kills()).sum();
    assert!((100..=101).contains(&killed), "{killed}");
}
