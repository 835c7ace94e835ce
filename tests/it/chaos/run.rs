//! A run: load, blows, the last look at everything, the verdict, the report.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::{StreamExt, stream};

use super::check::{Rules, Verdict, check};
use super::clients::Load;
use super::history::History;
use super::plan::Disturbance;
use super::stage::{Done, Stage};
use super::workload::{Marker, TABLES, Targets, expected, rows};
use crate::own_postgres::OwnPostgres;
use crate::support::Database;

/// Clients at once. Each has up to three executions under way, so that what is
/// accepted can end within the limit.
const CLIENTS: usize = 12;

/// What is accepted ends within this time of a server's return.
const LIMIT: Duration = Duration::from_secs(10);

/// Whether a call that a server leaves unanswered at its ordered end is a
/// fault. A connection that is made while the listener closes can be reset, so
/// they are counted only; `drain.rs` judges requests in flight.
const ANSWERS_TO_THE_END: bool = false;
const ONCE_PER_MARKER: bool = true;

/// Between two looks whether all has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Faults that are printed.
const TOLD: usize = 20;

/// Progress lines of a run.
const LINES: usize = 20;

/// One run of the harness.
pub struct Run {
    pub name: &'static str,
    pub seed: u64,
    pub plan: Vec<Disturbance>,
    pub nodes: usize,
    /// Where executions may fail because what they load into is away too.
    pub may_fail: bool,
}

impl Run {
    /// Runs it.
    ///
    /// # Panics
    /// If the history breaks a rule.
    pub async fn go(self, database: Database, postgres: Option<OwnPostgres>, destination: &str) {
        let (name, seed) = (self.name, self.seed);
        println!("chaos, {name}: seed {seed}; SEED={seed} repeats the plan");
        let mut stage = Stage::open(database, postgres, destination, self.nodes).await;
        let addresses = stage.addresses();
        let targets = Targets::deploy(&addresses[0].borrow().clone()).await;
        for node in &addresses {
            let api = node.borrow().clone();
            targets.reach(&api).await;
        }
        let load = Arc::new(Load::new(targets, addresses));
        (0..self.nodes).for_each(|_| load.history.up());
        let clients: Vec<_> =
            (0..CLIENTS).map(|n| tokio::spawn(Arc::clone(&load).client(n, seed))).collect();
        for (n, disturbance) in self.plan.iter().enumerate() {
            if disturbance.serves {
                serve(&load).await;
            }
            tokio::time::sleep(disturbance.rest).await;
            stage.deal(disturbance, &load.history).await;
            if disturbance.settles {
                settle(&load.history).await;
            }
            if (n + 1).is_multiple_of(self.plan.len().div_ceil(LINES)) {
                self.tell_progress(n + 1, &load);
            }
        }
        load.over.store(true, Ordering::Relaxed);
        let mut submitted = Vec::new();
        for client in clients {
            submitted.extend(client.await.expect("a client does its work"));
        }
        read_all_again(&load, &submitted).await;
        let destination = sea_orm::Database::connect(destination).await.unwrap();
        let rows = rows(&destination).await;
        let rules = Rules {
            limit: LIMIT,
            may_fail: self.may_fail,
            answers_to_the_end: ANSWERS_TO_THE_END,
            once_per_marker: ONCE_PER_MARKER,
            expected: &expected,
        };
        let verdict = check(&load.history.read(), &rows, TABLES, &rules);
        self.report(&load, &stage.done, rows.len(), &verdict);
        assert!(verdict.faults.is_empty(), "{}", self.faults(&verdict, &stage.log()));
    }

    fn tell_progress(&self, done: usize, load: &Load) {
        println!(
            "  {done} of {} blows, {} executions accepted, {} answers, {} s",
            self.plan.len(),
            load.accepted.load(Ordering::Relaxed),
            load.history.len(),
            load.history.now().as_secs(),
        );
    }

    fn report(&self, load: &Load, done: &Done, rows: usize, verdict: &Verdict) {
        let Done { kills, killed_in_start, pauses, terminations, outages } = done;
        println!(
            "chaos, {}: seed {}, {} s\n  \
             {kills} SIGKILLs ({killed_in_start} of them during a start), {pauses} pauses, \
             {terminations} SIGTERMs, {outages} stops of Postgres\n  \
             {} executions accepted, ended as {:?}, {rows} rows loaded\n  \
             {} answers in the history; {} calls got none ({} of them from a server that ended \
             in order), {} were refused for now\n  \
             slowest end: {} ms after the acceptance, or the server's return \
             ({} ms over several lives)\n  \
             faults: {}, and {} ends that came too late",
            self.name,
            self.seed,
            load.history.now().as_secs(),
            verdict.accepted,
            verdict.ended,
            load.history.len(),
            load.unanswered.load(Ordering::Relaxed),
            verdict.torn,
            load.refused.load(Ordering::Relaxed),
            verdict.slowest.as_millis(),
            verdict.slowest_in_sum.as_millis(),
            verdict.faults.len() - verdict.late,
            verdict.late,
        );
    }

    fn faults(&self, verdict: &Verdict, log: &str) -> String {
        let mut text =
            format!("{} faults; SEED={} repeats the plan\n", verdict.faults.len(), self.seed);
        for fault in verdict.faults.iter().take(TOLD) {
            let _ = writeln!(text, "  {fault}");
        }
        let _ = writeln!(text, "the servers' log ends with");
        let lines: Vec<_> = log.lines().rev().take(TOLD).collect();
        lines.iter().rev().for_each(|line| {
            let _ = writeln!(text, "  {line}");
        });
        text
    }
}

/// Waits until something is accepted, or has not been for too long.
async fn serve(load: &Load) {
    let before = load.accepted.load(Ordering::Relaxed);
    let begun = load.history.now();
    while load.accepted.load(Ordering::Relaxed) == before && load.history.now() < begun + LIMIT {
        tokio::time::sleep(LOOK).await;
    }
}

/// Peace until all that was accepted before has ended, or is late.
async fn settle(history: &History) {
    let before = history.now();
    while history.open_since_before(before) > 0 && history.now() < before + 2 * LIMIT {
        tokio::time::sleep(LOOK).await;
    }
}

/// The last look: nothing is forgotten, and nothing has changed.
async fn read_all_again(load: &Load, submitted: &[(String, Marker)]) {
    let reads = submitted.iter().map(|(id, marker)| load.read_again(id, marker));
    stream::iter(reads).buffer_unordered(CLIENTS).collect::<Vec<()>>().await;
}
