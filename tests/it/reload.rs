//! A thousand deployment files: all of them change at once, or none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::support::{Api, Database, OPERATOR, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{call, managed, refusal};

/// Files in the folder.
const FILES: usize = 1000;

/// Deployments that are called while the files change.
const CALLED: usize = 16;

/// Submissions of each caller, before the reload is asked for and after it is
/// answered.
const BEFORE_AND_AFTER: usize = 3;

/// The folder of deployment files of servers on this database.
pub fn folder(database: &Database) -> String {
    let folder = database.path("deployments");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Settings for a server that reads that folder when it is asked to.
pub fn asked(database: &Database) -> String {
    format!("[deployments]\nfolder = \"{}\"\nwatch = false", folder(database))
}

/// Writes a deployment file.
pub fn write(database: &Database, name: &str, text: &str) {
    std::fs::write(format!("{}/{name}", folder(database)), text).unwrap();
}

/// A deployment that answers its version twice, from two steps.
pub fn versioned(name: &str, version: &str) -> String {
    format!(
        r#"org_id = "acme"
api_name = "{name}"
description = "version {version}"
rate_limit = {{ requests = 100_000, per_seconds = 1, burst = 100_000 }}

[workflow]
type = "TASK"

[[workflow.steps]]
id = "first"
uses = "template"
with = {{ template = "{name} {version}" }}

[[workflow.steps]]
uses = "template"
with = {{ template = "{{{{ input }}}}, {name} {version}" }}
"#
    )
}

/// What [`versioned`] answers.
pub fn answer_of(name: &str, version: &str) -> String {
    format!("{name} {version}, {name} {version}")
}

/// Asks for a reload.
pub async fn reload(api: &Api, query: &str) -> Response {
    let path = format!("/api/v1/admin/reload/{query}");
    call(api, Method::POST, &path, OPERATOR, &Value::Null).await
}

/// Asks for a reload that succeeds; returns the difference.
pub async fn reloaded(api: &Api) -> Value {
    json_of(reload(api, "").await, 200).await
}

/// The deployment of that name.
pub async fn deployment(api: &Api, platform_key: &str, name: &str) -> Value {
    let path = managed("api-deployment/?page_size=1000");
    let page = json_of(api.get(&path, platform_key).send().await.unwrap(), 200).await;
    let rows = page["results"].as_array().unwrap();
    rows.iter().find(|row| row["api_name"] == name).cloned().unwrap_or(Value::Null)
}

/// A declared deployment with a new key.
pub async fn target(api: &Api, platform_key: &str, name: &str) -> Target {
    let row = deployment(api, platform_key, name).await;
    let id = row["id"].as_str().unwrap();
    let path = managed(&format!("api-deployment/{id}/key/"));
    let made = call(api, Method::POST, &path, platform_key, &json!({})).await;
    let key = json_of(made, 201).await["api_key"].as_str().unwrap().to_owned();
    Target {
        platform_key: platform_key.to_owned(),
        id: id.to_owned(),
        public_id: row["public_id"].as_str().unwrap().to_owned(),
        api_name: name.to_owned(),
        key,
    }
}

/// What a deployment answers to one submission, which it must take.
pub async fn output(api: &Api, target: &Target) -> Value {
    let answer = api.submit(target, &json!({"input_data": 1, "timeout": 60})).await;
    json_of(answer, 200).await["result"][0]["result"]["output"].clone()
}

fn name_of(n: usize) -> String {
    format!("d{n:04}")
}

fn write_all(database: &Database, version: &str) {
    for n in 0..FILES {
        let name = name_of(n);
        write(database, &format!("{name}.toml"), &versioned(&name, version));
    }
}

fn counts(difference: &Value) -> [usize; 4] {
    let length = |name: &str| difference[name].as_array().unwrap().len();
    let unchanged = usize::try_from(difference["unchanged"].as_u64().unwrap()).unwrap();
    [length("added"), length("changed"), length("removed"), unchanged]
}

/// Calls one deployment again and again. Each answer is wholly of one version,
/// and what is sent after the reload was answered is of the new one.
async fn caller(api: Api, target: Target, began: Arc<Barrier>, done: Arc<AtomicBool>) -> usize {
    let (old, new) = (answer_of(&target.api_name, "A"), answer_of(&target.api_name, "B"));
    let (mut answers, mut after) = (0, 0);
    while after < BEFORE_AND_AFTER {
        let is_done = done.load(Ordering::SeqCst);
        let output = output(&api, &target).await;
        if is_done {
            assert_eq!(output, new);
            after += 1;
        } else {
            assert!(output == old || output == new, "a mixture: {output}");
        }
        answers += 1;
        if answers == BEFORE_AND_AFTER {
            began.wait().await;
        }
    }
    answers
}

on_each_database! {
    async fn a_reload_of_a_thousand_files_under_load_refuses_nobody_and_mixes_nothing(database) {
        let server = Server::start_with(&database, &asked(&database)).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        write_all(&database, "A");
        let started = Instant::now();
        assert_eq!(counts(&reloaded(api).await), [FILES, 0, 0, 0]);
        let first = started.elapsed();
        let (began, done) = (Arc::new(Barrier::new(CALLED + 1)), Arc::new(AtomicBool::new(false)));
        let mut callers = Vec::new();
        for n in 0..CALLED {
            let target = target(api, &key, &name_of(n * FILES / CALLED)).await;
            callers.push(tokio::spawn(caller(api.clone(), target, Arc::clone(&began), Arc::clone(&done))));
        }
        began.wait().await;
        write_all(&database, "B");
        let started = Instant::now();
        let difference = reloaded(api).await;
        done.store(true, Ordering::SeqCst);
        let second = started.elapsed();
        assert_eq!(counts(&difference), [0, FILES, 0, 0]);
        let fields = json!(["description", "workflow.steps"]);
        assert_eq!(difference["changed"][7], json!({
            "org_id": ORG, "api_name": "d0007", "file": "d0007.toml", "fields": fields,
            "from_revision": 1, "to_revision": 2,
        }));
        let mut answers = 0;
        for caller in callers {
            answers += caller.await.unwrap();
        }
        let started = Instant::now();
        assert_eq!(counts(&reloaded(api).await), [0, 0, 0, FILES]);
        println!("{FILES} files: first {first:?}, all changed under load {second:?} ({answers} answers), none changed {:?}", started.elapsed());
        server.stop().await;
    }
}

on_each_database! {
    async fn a_broken_file_among_a_thousand_changes_nothing_and_is_named(database) {
        let server = Server::start_with(&database, &asked(&database)).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        write_all(&database, "A");
        reloaded(api).await;
        let target = target(api, &key, "d0000").await;
        write_all(&database, "B");
        let broken = versioned("d0500", "B").replace("burst = 100_000", "burst = 0");
        write(&database, "d0500.toml", &broken);
        let unclosed = versioned("d0501", "B").replace("\"TASK\"", "\"TASK");
        write(&database, "d0501.toml", &unclosed);
        for query in ["?dry_run=true", ""] {
            let body = refusal(reload(api, query).await, 400, "invalid_declaration").await;
            let told: Vec<_> = body["errors"].as_array().unwrap().iter()
                .map(|error| (error["attr"].as_str().unwrap(), error["detail"].as_str().unwrap()))
                .collect();
            assert_eq!(told.len(), 2, "{body}");
            assert_eq!(told[0], ("deployments/d0500.toml:4:53", "rate_limit.burst: from 1 to 1000000"));
            assert!(told[1].0.starts_with("deployments/d0501.toml:7:"), "{body}");
            assert_eq!(output(api, &target).await, answer_of("d0000", "A"));
            assert_eq!(deployment(api, &key, "d0999").await["revision"], 1);
        }
        write(&database, "d0500.toml", &versioned("d0500", "B"));
        write(&database, "d0501.toml", &versioned("d0501", "B"));
        let dry = json_of(reload(api, "?dry_run=true").await, 200).await;
        assert_eq!((dry["dry_run"].clone(), counts(&dry)), (json!(true), [0, FILES, 0, 0]));
        assert_eq!(output(api, &target).await, answer_of("d0000", "A"));
        assert_eq!(deployment(api, &key, "d0999").await["revision"], 1);
        assert_eq!(counts(&reloaded(api).await), [0, FILES, 0, 0]);
        assert_eq!(output(api, &target).await, answer_of("d0000", "B"));
        server.stop().await;
    }
}
