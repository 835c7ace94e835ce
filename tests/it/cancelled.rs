//! Callers who go away at any moment of a request: while they send its head
//! or its body, while they wait, while they read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use sea_orm::sqlx::{self, Connection};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::outages::counted;
use crate::support::{Api, Database, PATIENCE, Server, Target, on_each_database};
use crate::wire::{FORM, JSON, call, connect, file, form, managed, no_upload_is_left, parsed};

/// Callers at once.
const CALLERS: usize = 32;

/// Management writes at once at the end: more than the pool has connections.
const WRITES: usize = 32;

/// Requests that go away; `CANCELLED=10000` asks for more of them.
fn cancelled() -> usize {
    std::env::var("CANCELLED").map_or(1000, |count| count.parse().unwrap())
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same moments in each run.
struct Chance(u64);

impl Chance {
    /// From 0 to `bound`, which it does not reach.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let mixed = mixed ^ (mixed >> 31);
        usize::try_from(mixed % bound as u64).unwrap()
    }
}

/// What the requests are about.
struct Scene {
    target: Target,
    /// An execution that ended.
    ended: String,
    /// Those that were accepted, with an answer that came whole.
    accepted: Mutex<Vec<String>>,
    /// Answers that told the caller to come back.
    refused: AtomicUsize,
}

impl Scene {
    /// One of the requests that callers make, whole.
    fn request(&self, turn: usize, chance: &mut Chance) -> Vec<u8> {
        let deployment = |rest: &str| format!("/deployment/{}/{rest}", self.target.public_id);
        let known = {
            let accepted = self.accepted.lock().unwrap();
            let count = accepted.len().max(1);
            accepted.get(chance.below(count)).unwrap_or(&self.ended).clone()
        };
        let key = self.target.key.as_str();
        let platform = self.target.platform_key.as_str();
        let input = json!({"input_data": turn}).to_string().into_bytes();
        let upload =
            form(&[file("one.txt", &format!("{turn} ").repeat(500)), file("two.txt", "2")]);
        let name = format!("workflow-{turn}");
        let steps = json!([{"uses": "jq", "with": {"filter": "."}}]);
        let workflow = json!({"name": name, "type": "TASK", "steps": steps}).to_string();
        let (method, path, key, media, body) = match chance.below(8) {
            0 | 1 => ("POST", deployment(""), key, JSON, input),
            2 | 3 => ("POST", deployment(""), key, FORM, upload),
            4 => ("GET", deployment(&format!("status/{known}/?wait=1")), key, JSON, Vec::new()),
            5 => ("GET", deployment(&format!("result/{}/", self.ended)), key, JSON, Vec::new()),
            6 => ("POST", deployment(&format!("cancel/{known}/")), key, JSON, Vec::new()),
            _ => ("POST", managed("workflow/"), platform, JSON, workflow.into_bytes()),
        };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: {media}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        [head.into_bytes(), body].concat()
    }

    /// Makes a request and goes away in the middle of it; in one of eight
    /// cases only after the answer.
    async fn abandon(&self, api: &Api, turn: usize) {
        let mut chance = Chance(turn as u64);
        let request = self.request(turn, &mut chance);
        let mut stream = connect(api).await;
        let patience = match chance.below(8) {
            0 => PATIENCE,
            1 | 2 => {
                let sent = chance.below(request.len());
                stream.write_all(&request[..sent]).await.unwrap();
                return;
            }
            _ => Duration::from_micros(chance.below(30_000) as u64),
        };
        stream.write_all(&request).await.unwrap();
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        let reading = async {
            loop {
                let count = stream.read(&mut piece).await.unwrap();
                assert!(count > 0, "it is answered");
                answer.extend_from_slice(&piece[..count]);
                let (status, body) = parsed(&String::from_utf8_lossy(&answer));
                if !body.is_null() {
                    return (status, body);
                }
            }
        };
        if let Ok((status, body)) = tokio::time::timeout(patience, reading).await {
            // Work that was abandoned is done all the same: behind too much of
            // it the database cannot be had in time.
            assert!([200, 201, 202, 409, 503].contains(&status), "{status} {body}");
            self.refused.fetch_add(usize::from(status == 503), Ordering::Relaxed);
            // The answers to a cancel and to a result name it too.
            if status == 202 && body["status_url"].is_string() {
                let id = body["execution_id"].as_str().unwrap().to_owned();
                self.accepted.lock().unwrap().push(id);
            }
        }
    }
}

/// Waits until `settled` holds.
pub async fn until(what: &str, mut settled: impl AsyncFnMut() -> bool) {
    let settling = async {
        while !settled().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, settling).await.expect(what);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

async fn no_transaction_is_open(database: &Database) {
    if database.url.starts_with("sqlite") {
        // Another writer gets the lock: nobody holds it.
        let mut witness = sqlx::SqliteConnection::connect(&database.url).await.unwrap();
        for statement in ["BEGIN IMMEDIATE", "ROLLBACK"] {
            sqlx::query(statement).execute(&mut witness).await.unwrap();
        }
        return;
    }
    let mut witness = sqlx::PgConnection::connect(&database.url).await.unwrap();
    until("no transaction is open", async || {
        let open = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        sqlx::query_scalar::<_, i64>(open).fetch_one(&mut witness).await.unwrap() == 0
    })
    .await;
}

/// Callers that send and go away, side by side.
async fn storm(api: &Api, scene: &Arc<Scene>) {
    let next = Arc::new(AtomicUsize::new(1));
    let callers = (0..CALLERS).map(|_| {
        let (api, scene, next) = (api.clone(), Arc::clone(scene), Arc::clone(&next));
        tokio::spawn(async move {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if turn > cancelled() {
                    return;
                }
                scene.abandon(&api, turn).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

on_each_database! {
    /// A storm of requests that nobody waits for leaves nothing behind: no
    /// transaction, no place, no task, no upload; and all that was accepted.
    async fn a_storm_of_cancelled_requests_leaves_nothing_behind(database) {
        let server = Server::start_with(&database, "[engine]\nstep_threads = 1").await;
        let api = &server.api;
        // No child process: what was abandoned is done soon.
        let steps = json!([{"uses": "template", "with": {"template": "done"}}]);
        let target = api.deploy(steps).await;
        let ended = api.accepted(&target, &json!({"input_data": 0})).await;
        api.ended(&target, &ended).await;
        let context = server.engine.context();
        let entry = server.engine.deployment_named(&target.public_id).unwrap();
        let tasks = || context.work.metrics().num_alive_tasks();
        let (tasks_before, descriptors_before) = (tasks(), descriptors());

        let (accepted, refused) = (Mutex::default(), AtomicUsize::default());
        let scene = Arc::new(Scene { target, ended, accepted, refused });
        storm(api, &scene).await;

        // However much there is to do, it goes on.
        while context.accepted.taken() > 0 {
            let before = context.accepted.taken();
            until("a place is given back", async || context.accepted.taken() < before).await;
        }
        until("all places are free", async || {
            entry.accepted.taken() == 0 && entry.live.is_empty()
        })
        .await;
        until("all that was stored has ended", async || counted(&database.url).await.1 == 0).await;
        no_transaction_is_open(&database).await;
        no_upload_is_left(&database).await;
        let accepted = scene.accepted.lock().unwrap().clone();
        for id in &accepted {
            let status = api.ended(&scene.target, id).await["status"].clone();
            assert!(status == "COMPLETED" || status == "STOPPED", "{id} is {status}");
        }
        let made = (0..WRITES).map(|n| {
            let steps = json!([{"uses": "jq", "with": {"filter": "."}}]);
            let new = json!({"name": format!("after-{n}"), "type": "TASK", "steps": steps});
            let (path, key) = (managed("workflow/"), scene.target.platform_key.clone());
            async move { call(api, Method::POST, &path, &key, &new).await.status() }
        });
        assert!(join_all(made).await.iter().all(|status| *status == 201), "the pool is whole");
        // A connection of the pool has a task on SQLite, and a descriptor.
        let pool = 2 * usize::try_from(database.config("").database.max_connections).unwrap();
        until("no task is left", async || tasks() <= tasks_before + pool).await;
        // Connections that the client keeps have two descriptors in this process.
        let kept = 4 * WRITES + 4 * pool;
        until("no descriptor is left", async || descriptors() <= descriptors_before + kept).await;
        println!(
            "{} cancelled: {} answered with 202, {} with 503; tasks {tasks_before} -> {}, descriptors {descriptors_before} -> {}",
            cancelled(), accepted.len(), scene.refused.load(Ordering::Relaxed), tasks(), descriptors(),
        );
        server.stop().await;
    }
}
