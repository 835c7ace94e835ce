//! Every fault point and every action, under load: what was accepted ends as
//! it should, and nothing is loaded twice.

use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use futures_util::future::join_all;
use millrace::faults;
use tokio::sync::watch;

use crate::chaos::check::{Rules, check};
use crate::chaos::clients::Load;
use crate::chaos::stage;
use crate::chaos::workload::{Marker, TABLES, Targets, expected, rows};
use crate::support::{Api, Database, OPERATOR, PATIENCE, Process, Starting, on_each_database};

const ACTIONS: [&str; 4] = ["return(error)", "return(delay:300)", "panic", "return(abort)"];

const CLIENTS: usize = 3;

/// SIGABRT.
const ABORTED: i32 = 6;

macro_rules! matrix {
    ($($name:ident $point:literal,)+) => {
        const COVERED: &[&str] = &[$($point),+];

        $(on_each_database! {
            async fn $name(database) {
                hold(database, $point).await;
            }
        })+
    };
}

matrix! {
    before_the_commit_of_an_acceptance "accept-before-commit",
    after_the_commit_of_an_acceptance "accept-after-commit",
    before_the_commit_of_a_beginning "begin-before-commit",
    after_the_commit_of_a_beginning "begin-after-commit",
    before_the_commit_of_a_step "step-before-commit",
    after_the_commit_of_a_step "step-after-commit",
    before_the_commit_of_an_end "end-before-commit",
    after_the_commit_of_an_end "end-after-commit",
    before_the_commit_of_a_claim "claim-before-commit",
    after_the_commit_of_a_claim "claim-after-commit",
    before_the_commit_of_a_cancel "cancel-before-commit",
    after_the_commit_of_a_cancel "cancel-after-commit",
    before_the_commit_of_a_heartbeat "heartbeat-before-commit",
    after_the_commit_of_a_heartbeat "heartbeat-after-commit",
    before_the_commit_of_a_registration "register-before-commit",
    after_the_commit_of_a_registration "register-after-commit",
    before_the_commit_of_a_burial "bury-before-commit",
    after_the_commit_of_a_burial "bury-after-commit",
    before_the_commit_of_a_hand_back "hand-back-before-commit",
    after_the_commit_of_a_hand_back "hand-back-after-commit",
    before_the_commit_of_a_change "change-before-commit",
    after_the_commit_of_a_change "change-after-commit",
    before_any_other_commit "write-before-commit",
    after_any_other_commit "write-after-commit",
    in_a_step "step-run",
    after_the_commit_of_a_load "load-after-commit",
    after_the_rename_of_a_document "document-after-rename",
}

#[test]
fn the_matrix_has_every_fault_point() {
    let mut points = faults::POINTS.to_vec();
    // Where no error can be told, only a panic can be asked for: supervision.rs.
    points.retain(|point| *point != faults::DEPLOYMENT_ADMIT);
    assert_eq!(points, COVERED);
}

/// Servers that fail at the point, one after the other, under one load.
struct Trial {
    database: Database,
    point: &'static str,
    load: Arc<Load>,
    address: watch::Sender<Api>,
}

async fn hold(database: Database, point: &'static str) {
    let destination = format!("sqlite://{}?mode=rwc", database.path("destination.db"));
    stage::configure(&database, &destination);
    let faults = if is_alone(point) { String::new() } else { in_turn(point) };
    let process = spawn(&database, &faults).ready().await;
    let address = watch::Sender::new(process.api.clone());
    let load = Load::new(Targets::deploy(&process.api).await, vec![address.subscribe()]);
    let trial = Trial { database, point, load: Arc::new(load), address };
    trial.load.history.up();
    let cancels = point.starts_with("cancel");
    let client = |n| {
        let load = Arc::clone(&trial.load);
        if cancels && n > 0 {
            tokio::spawn(cancel_all(load, n))
        } else {
            tokio::spawn(load.client(n, 1))
        }
    };
    let clients: Vec<_> = (0..CLIENTS).map(client).collect();
    if is_alone(point) {
        trial.goes_on(1).await;
        trial.end(process);
        for action in ACTIONS {
            trial.one(action).await;
        }
    } else {
        trial.all_in_turn(process).await;
    }
    let server = spawn(&trial.database, "").ready().await;
    trial.begin(&server);
    trial.goes_on(1).await;
    trial.load.over.store(true, Ordering::Relaxed);
    let mut submitted = Vec::new();
    for client in clients {
        submitted.extend(client.await.expect("a client does its work"));
    }
    join_all(submitted.iter().map(|(id, marker)| trial.load.read_again(id, marker))).await;
    trial.judge(&destination).await;
}

/// Points that a start or a stop passes, or that mean something only then, take
/// a server for each action; the others fail in turn in one.
fn is_alone(point: &str) -> bool {
    ["register", "claim", "bury", "hand-back"].iter().any(|prefix| point.starts_with(prefix))
}

/// One fault after the other, with a pass without one in between.
fn in_turn(point: &str) -> String {
    // Making the deployments takes so many changes.
    let first = if point.starts_with("change") { 5 } else { 1 };
    let actions: Vec<_> = ACTIONS.iter().map(|action| format!("1*{action}")).collect();
    let mut actions = actions.join("->1*off->");
    if point == "accept-after-commit" {
        // So long that the acceptance looks abandoned.
        actions = actions.replace("delay:300", "delay:3500");
    }
    format!("{point}={first}*off->{actions}")
}

fn spawn(database: &Database, faults: &str) -> Starting {
    stage::spawn(
        database,
        &[
            ("FAILPOINTS", faults),
            ("MILLRACE_USAGE__FLUSH_SECONDS", "1"),
            ("MILLRACE_ENGINE__DRAIN_GRACE_SECONDS", "0"),
        ],
    )
}

impl Trial {
    fn begin(&self, process: &Process) {
        self.address.send_replace(process.api.clone());
        self.load.history.up();
    }

    fn end(&self, process: Process) {
        self.load.history.down();
        process.kill();
    }

    /// Until so many more executions are accepted.
    async fn goes_on(&self, more: usize) {
        let wanted = self.load.accepted.load(Ordering::Relaxed) + more;
        self.until(|| self.load.accepted.load(Ordering::Relaxed) >= wanted).await;
    }

    async fn until(&self, reached: impl Fn() -> bool) {
        let looking = async {
            while !reached() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let point = self.point;
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("{point}"));
    }

    /// All faults in one server, the last of which ends it.
    async fn all_in_turn(&self, process: Process) {
        let changes = tokio::spawn(change_again_and_again(process.api.clone()));
        let status = process.exit().await;
        self.load.history.down();
        changes.abort();
        assert_eq!(status.signal(), Some(ABORTED), "{}: {status}", self.point);
    }

    /// One fault in a server of its own, which finds what the last one left.
    async fn one(&self, action: &str) {
        let dealt = self.dealt();
        let starting = spawn(&self.database, &format!("{}=1*{action}", self.point));
        let Some(process) = starting.ready_or_gone().await else {
            assert!(self.dealt() > dealt, "{} {action}: no start", self.point);
            return;
        };
        self.begin(&process);
        if self.point.starts_with("hand-back") {
            self.goes_on(CLIENTS).await;
            process.signal("TERM");
            process.exit().await;
            self.load.history.down();
            assert!(self.dealt() > dealt, "{} {action}", self.point);
            return;
        }
        self.until(|| self.dealt() > dealt).await;
        if action == "return(abort)" {
            process.exit().await;
            self.load.history.down();
        } else {
            self.goes_on(1).await;
            self.end(process);
        }
    }

    /// Faults so far, by what the servers logged.
    fn dealt(&self) -> usize {
        let log = stage::log(&self.database);
        let told = |line: &&str| line.contains("a fault is injected") && line.contains(self.point);
        log.lines().filter(told).count()
            + log.matches(&format!("failpoint {} panic", self.point)).count()
    }

    async fn judge(&self, destination: &str) {
        let destination = sea_orm::Database::connect(destination).await.unwrap();
        let rows = rows(&destination).await;
        // Inside a step a fault fails its document, and nothing else.
        let in_step = [faults::STEP_RUN, faults::LOAD_AFTER_COMMIT, faults::DOCUMENT_AFTER_RENAME];
        let may_fail = in_step.contains(&self.point);
        let rules = Rules {
            limit: limit(),
            may_fail,
            answers_to_the_end: false,
            once_per_marker: true,
            expected: &expected,
        };
        let mut verdict = check(&self.load.history.read(), &rows, TABLES, &rules);
        if self.point == faults::DOCUMENT_AFTER_RENAME {
            // A request that panics is answered with 500, once.
            let panicked = verdict.faults.iter().position(|fault| fault.contains("got 500"));
            panicked.map(|at| verdict.faults.remove(at));
        }
        println!(
            "{}: {} accepted, {:?}, slowest {} ms",
            self.point,
            verdict.accepted,
            verdict.ended,
            verdict.slowest.as_millis()
        );
        let log = stage::log(&self.database);
        assert!(verdict.faults.is_empty(), "{}: {:#?}\n{log}", self.point, verdict.faults);
    }
}

/// What is accepted ends within this time of a server's return. Only a run that
/// has the machine to itself can hold servers to a short one: `make faults`.
fn limit() -> Duration {
    let seconds = std::env::var("LIMIT_SECONDS").map(|text| text.parse().expect("seconds"));
    seconds.map_or(PATIENCE, Duration::from_secs)
}

/// A client that cancels whatever it submits.
async fn cancel_all(load: Arc<Load>, number: usize) -> Vec<(String, Marker)> {
    let mut rng = Rng::with_seed(1);
    let mut mine = Vec::new();
    for n in 0.. {
        if load.over.load(Ordering::Relaxed) {
            break;
        }
        let marker = Marker::new(number, n);
        let Some(id) = load.submit(&mut rng, &marker).await else { continue };
        let target = marker.target(&load.targets);
        load.cancel(&mut rng, target, &id).await;
        load.to_its_end(&mut rng, target, &id).await;
        mine.push((id, marker));
    }
    mine
}

/// Makes organisations, whose names count up, for as long as it is let.
async fn change_again_and_again(api: Api) {
    for n in 0_u32.. {
        let body = serde_json::json!({"org_id": format!("org-{n}")});
        let _ = api.post("/api/v1/admin/organization/", OPERATOR).json(&body).send().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
