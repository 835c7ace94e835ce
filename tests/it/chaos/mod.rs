//! Servers and databases that are killed, paused and restarted at random
//! moments under load, and the history of all answers, which is checked at
//! the end: `make chaos`, `docs/chaos.md`.

pub mod check;
mod check_tests;
pub mod clients;
pub mod history;
mod plan;
mod run;
pub mod stage;
pub mod workload;

use crate::own_postgres::OwnPostgres;
use crate::support::Database;
use run::Run;

/// A number from the environment.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}"))
        }
        _ => default,
    }
}

fn seed() -> u64 {
    number("SEED", u64::from(fastrand::u32(..)))
}

fn count(name: &str) -> usize {
    usize::try_from(number(name, 20)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn chaos_of_kills_on_sqlite_loses_nothing_and_doubles_nothing() {
    let seed = seed();
    let database = Database::sqlite();
    let destination = format!("sqlite://{}?mode=rwc", database.path("destination.db"));
    let plan = plan::kills(seed, count("KILLS"), 1);
    let run = Run { name: "kills on SQLite", seed, plan, nodes: 1, may_fail: false };
    run.go(database, None, &destination).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn chaos_of_kills_on_postgres_loses_nothing_and_doubles_nothing() {
    postgres("kills on Postgres", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn chaos_of_kills_of_two_nodes_on_postgres_loses_nothing_and_doubles_nothing() {
    postgres("kills of two nodes on Postgres", 2).await;
}

async fn postgres(name: &'static str, nodes: usize) {
    let (Some(database), Some(destination)) =
        (Database::postgres().await, Database::postgres().await)
    else {
        println!("skipped: {name} needs Postgres");
        return;
    };
    let seed = seed();
    let plan = plan::kills(seed, count("KILLS"), nodes);
    let run = Run { name, seed, plan, nodes, may_fail: false };
    run.go(database, None, &destination.url).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "make chaos"]
async fn chaos_of_outages_of_postgres_loses_nothing_and_doubles_nothing() {
    let name = "restarts of Postgres";
    let Some(postgres) = OwnPostgres::start() else {
        println!("skipped: {name} need Postgres");
        return;
    };
    let (database, destination) = (postgres.database().await, postgres.database().await);
    let seed = seed();
    let plan = plan::outages(seed, count("RESTARTS"));
    let run = Run { name, seed, plan, nodes: 1, may_fail: true };
    run.go(database, Some(postgres), &destination.url).await;
}
