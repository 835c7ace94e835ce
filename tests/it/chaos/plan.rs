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
    /// The database stops at once and stays away for so long.
    Outage(Duration),
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
    /// Whether the rest begins only once the server has accepted something:
    /// a slow machine is to work between two blows, too.
    pub serves: bool,
    pub node: usize,
    pub blow: Blow,
    /// Whether there is peace after it until all that was accepted before has
    /// ended.
    pub settles: bool,
}

/// Every so many blows there is peace.
const SETTLES_EVERY: usize = 10;

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
        let (rest, node) = (millis(&mut rng, 0..1500), rng.usize(0..nodes));
        let settles = (plan.len() + 1).is_multiple_of(SETTLES_EVERY);
        let serves = rng.u32(0..3) > 0;
        plan.push(Disturbance { rest, serves, node, blow, settles });
    }
    plan
}

/// So many outages of the database.
pub fn outages(seed: u64, count: usize) -> Vec<Disturbance> {
    let mut rng = Rng::with_seed(seed);
    let disturbances = (1..=count).map(|n| Disturbance {
        rest: millis(&mut rng, 200..1500),
        serves: true,
        node: 0,
        blow: Blow::Outage(millis(&mut rng, 0..5000)),
        settles: n.is_multiple_of(SETTLES_EVERY),
    });
    disturbances.collect()
}

#[test]
fn a_seed_gives_the_same_plan_again_and_another_one_another() {
    assert_eq!(kills(7, 100, 2), kills(7, 100, 2));
    assert_ne!(kills(7, 100, 2), kills(8, 100, 2));
    assert_eq!(outages(7, 10), outages(7, 10));
    let killed: usize = kills(7, 100, 2).iter().map(|of| of.blow.kills()).sum();
    assert!((100..=101).contains(&killed), "{killed}");
}
