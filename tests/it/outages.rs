//! A store that goes away while callers are served: they hear of it soon and
//! in one shape, nothing that was accepted is lost, and the server is back by
//! itself when the store is.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use sea_orm::sqlx::{self, Connection};
use serde_json::json;

use crate::callers::Callers;
use crate::own_postgres::OwnPostgres;
use crate::support::{Api, Database, PATIENCE, Server, Target, json_of};
use crate::wire::{call, echo, endless, managed, refusal};

/// Management writes at once after an outage: more than the pool has
/// connections, so that each of them serves.
const WRITES: usize = 32;

/// Limits of the database in this test, so that a short outage is longer than
/// all of them.
const SHORT: &str = "[database]\nanswer_timeout_ms = 4000\n\
                     statement_timeout_ms = 4000\ntransaction_timeout_ms = 4000";

async fn is_away(api: &Api, path: &str, key: &str) {
    refusal(api.get(path, key).send().await.unwrap(), 503, "store_unavailable").await;
}

async fn health(api: &Api, of: &str) -> u16 {
    api.client.get(format!("{}/health/{of}", api.url)).send().await.unwrap().status().as_u16()
}

/// Whoever it is that has one execution that ended and one that runs.
struct Scene {
    echo: Target,
    ended: String,
    endless: Target,
    running: String,
}

impl Scene {
    async fn set(api: &Api) -> Self {
        let echo = api.deploy(echo()).await;
        let key = echo.platform_key.as_str();
        let ended = api.accepted(&echo, &json!({"input_data": "before"})).await;
        assert_eq!(api.ended(&echo, &ended).await["status"], "COMPLETED");
        let endless = api.deploy_in("acme", key, "endless", endless(), json!({})).await;
        let running = api.accepted(&endless, &json!({"input_data": 1})).await;
        let status = format!("/deployment/{}/status/{running}/", endless.public_id);
        let begun = async {
            while json_of(api.get(&status, &endless.key).send().await.unwrap(), 200).await["status"]
                != "EXECUTING"
            {}
        };
        tokio::time::timeout(PATIENCE, begun).await.expect("it begins");
        Self { echo, ended, endless, running }
    }

    /// What callers are told while nothing can be read from the store.
    async fn during(&self, api: &Api) {
        let of = |what: &str, target: &Target, id: &str| {
            format!("/deployment/{}/{what}/{id}/", target.public_id)
        };
        assert_eq!(health(api, "live").await, 200);
        assert_eq!(health(api, "ready").await, 503);
        let running = of("status", &self.endless, &self.running);
        let live = api.get(&running, &self.endless.key).send().await.unwrap();
        assert_eq!(json_of(live, 200).await["status"], "EXECUTING");
        is_away(api, &of("status", &self.echo, &self.ended), &self.echo.key).await;
        is_away(api, &of("result", &self.echo, &self.ended), &self.echo.key).await;
        is_away(api, &managed("workflow/"), &self.echo.platform_key).await;
        let new = json!({"name": "new", "type": "TASK", "steps": [{"uses": "jq", "with": {"filter": "."}}]});
        let path = managed("workflow/");
        let made = call(api, Method::POST, &path, &self.echo.platform_key, &new).await;
        refusal(made, 503, "store_unavailable").await;
    }

    /// All of the pool serves again, and what was there before is.
    async fn after(&self, api: &Api) {
        let ready = async { while health(api, "ready").await != 200 {} };
        tokio::time::timeout(PATIENCE, ready).await.expect("it is ready again");
        let made = (0..WRITES).map(|n| async move {
            let steps = json!([{"uses": "jq", "with": {"filter": "."}}]);
            let new = json!({"name": format!("after-{n}"), "type": "TASK", "steps": steps});
            let path = managed("workflow/");
            call(api, Method::POST, &path, &self.echo.platform_key, &new).await.status()
        });
        let made = join_all(made).await;
        assert!(made.iter().all(|status| *status == 201), "{made:?}");
        assert_eq!(api.result(&self.echo, &self.ended).await[0]["result"]["output"], "before");
        let cancel = format!("/deployment/{}/cancel/{}/", self.endless.public_id, self.running);
        let cancelled = api.post(&cancel, &self.endless.key).send().await.unwrap();
        assert_eq!(cancelled.status(), 202);
        assert_eq!(api.ended(&self.endless, &self.running).await["status"], "STOPPED");
    }
}

/// Executions that the store has: all, and those that have not ended.
pub async fn counted(url: &str) -> (i64, i64) {
    const COUNT: &str = "SELECT count(*), \
        count(CASE WHEN status IN ('PENDING', 'EXECUTING') THEN 1 END) FROM executions";
    if url.starts_with("sqlite") {
        let mut db = sqlx::SqliteConnection::connect(url).await.unwrap();
        sqlx::query_as(COUNT).fetch_one(&mut db).await.unwrap()
    } else {
        let mut db = sqlx::PgConnection::connect(url).await.unwrap();
        sqlx::query_as(COUNT).fetch_one(&mut db).await.unwrap()
    }
}

/// Ends the load: everything that was accepted has its result, and whatever
/// the store has, accepted or in doubt, has ended too.
async fn nothing_is_lost(
    what: &str,
    api: &Api,
    database: &Database,
    scene: &Scene,
    callers: Callers,
) {
    let told = callers.end().await;
    assert_eq!((told.broken.as_slice(), told.unheard), ([].as_slice(), 0), "all are answered");
    for (input, id) in &told.accepted {
        assert_eq!(api.ended(&scene.echo, id).await["status"], "COMPLETED");
        assert_eq!(api.result(&scene.echo, id).await[0]["result"]["output"], *input);
    }
    let start = Instant::now();
    let ending = async {
        while counted(&database.url).await.1 > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ending).await.expect("what was in doubt ends");
    let (stored, _) = counted(&database.url).await;
    // Beside the load there are the two of the scene.
    let doubtful = stored - i64::try_from(told.accepted.len()).unwrap() - 2;
    assert!(doubtful >= 0, "nothing accepted is missing");
    println!(
        "{what}: {} accepted, {} refused, {doubtful} refused and stored (ended after {} ms), slowest answer {} ms",
        told.accepted.len(),
        told.refused.iter().sum::<usize>(),
        start.elapsed().as_millis(),
        told.slowest.as_millis(),
    );
}

/// One outage of a Postgres under load: `refusals` of each caller long.
async fn rides_out(
    what: &str,
    settings: &str,
    refusals: usize,
    away: impl FnOnce(&mut OwnPostgres),
    back: impl FnOnce(&mut OwnPostgres),
) {
    let Some(mut postgres) = OwnPostgres::start() else {
        println!("skipped: {what} needs Postgres");
        return;
    };
    let database = postgres.database().await;
    let server = Server::start_with(&database, settings).await;
    let api = &server.api;
    let scene = Scene::set(api).await;
    let callers = Callers::start(api, &scene.echo);
    callers.accepted(50).await;
    away(&mut postgres);
    if refusals > 0 {
        callers.refused(1).await;
        scene.during(api).await;
        callers.refused(refusals).await;
    }
    back(&mut postgres);
    let first = callers.accepted(1).await;
    println!("{what}: the first is accepted {} ms after the store is back", first.as_millis());
    callers.accepted(50).await;
    scene.after(api).await;
    nothing_is_lost(what, api, &database, &scene, callers).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_stopped_and_started_again_loses_nothing() {
    let (stop, start) = (OwnPostgres::stop_immediate, OwnPostgres::restart);
    rides_out("stopped", "", 2, stop, start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_restarted_under_load_loses_nothing() {
    let (stop, start) = (OwnPostgres::stop_immediate, OwnPostgres::restart);
    rides_out("restarted", "", 0, stop, start).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_freezes_and_thaws_loses_nothing() {
    rides_out("frozen", "", 2, OwnPostgres::freeze, OwnPostgres::thaw).await;
}

/// Longer than any transaction may take: those that hung have been given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_frozen_for_long_loses_nothing() {
    rides_out("frozen for long", SHORT, 3, OwnPostgres::freeze, OwnPostgres::thaw).await;
}

/// Its connections neither answer nor break, and another server takes its
/// place.
#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_freezes_and_is_killed_loses_nothing() {
    let back = |postgres: &mut OwnPostgres| {
        postgres.thaw();
        postgres.stop_immediate();
        postgres.restart();
    };
    rides_out("frozen and killed", "", 2, OwnPostgres::freeze, back).await;
}
