//! Deployments that get their documents by themselves.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{call, cancel, document, managed, places, refusal};

/// Makes a workflow of type ETL and its deployment, both named `name`.
pub async fn deploy(api: &Api, key: &str, name: &str, steps: Value, settings: Value) -> Target {
    let workflow = json!({"name": name, "type": "ETL", "steps": steps});
    let made = call(api, Method::POST, &managed("workflow/"), key, &workflow).await;
    let workflow = json_of(made, 201).await["id"].clone();
    let mut deployment = json!({"api_name": name, "workflow": workflow});
    deployment.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let made = call(api, Method::POST, &managed("api-deployment/"), key, &deployment).await;
    let made = json_of(made, 201).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Target {
        platform_key: key.to_owned(),
        id: text("id"),
        public_id: text("public_id"),
        api_name: text("api_name"),
        key: text("api_key"),
    }
}

on_each_database! {
    async fn a_source_is_for_etl_and_its_connection_is_there_and_stays(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let steps = json!([{"uses": "jq", "with": {"filter": "."}}]);
        let task = api.deploy_in(ORG, &key, "task", steps.clone(), json!({})).await;
        let change = async |target: &Target, source: Value| {
            let path = managed(&format!("api-deployment/{}/", target.id));
            call(api, Method::PATCH, &path, &key, &json!({"source": source})).await
        };
        let refused = refusal(change(&task, json!({"connection": "archive"})).await, 400, "invalid_value").await;
        assert_eq!(places(&refused), ["source"]);
        let etl = deploy(api, &key, "etl", steps, json!({})).await;
        for (source, place) in [
            (json!({"connection": "nothing"}), "source.connection"),
            (json!({"connection": "warehouse"}), "source.connection"),
            (json!({"connection": "archive", "prefix": "../in"}), "source.prefix"),
            (json!({"connection": "archive", "include": ["["]}), "source.include[0]"),
            (json!({"connection": "archive", "what": 1}), "source.what"),
            (json!("archive"), "source"),
        ] {
            let refused = refusal(change(&etl, source.clone()).await, 400, "invalid_value").await;
            assert_eq!(places(&refused), [place], "{source}");
        }
        let folder = database.path("own");
        let local = format!("connections_api = {{ local_folders = [{folder:?}] }}");
        server.stop().await;

        let server = Server::start_with(&database, &local).await;
        let api = &server.api;
        let own = json!({"name": "own", "kind": "object_store", "service": "fs",
            "options": {"root": format!("{folder}/{ORG}/in")}});
        let made = call(api, Method::POST, &managed("connection/"), &key, &own).await;
        let own = json_of(made, 201).await["id"].as_str().unwrap().to_owned();
        let path = managed(&format!("api-deployment/{}/", etl.id));
        let body = json!({"source": {"connection": "own", "prefix": "/inbox"}});
        let changed = json_of(call(api, Method::PATCH, &path, &key, &body).await, 200).await;
        assert_eq!(changed["source"], json!({"connection": "own", "prefix": "/inbox", "include": ["**"],
            "exclude": [], "order": "name", "max_files": 500, "max_bytes": 1 << 30, "changed_only": true}));
        let connection = managed(&format!("connection/{own}/"));
        let deleted = call(api, Method::DELETE, &connection, &key, &Value::Null).await;
        refusal(deleted, 409, "still_in_use").await;
        let body = json!({"source": null});
        let changed = json_of(call(api, Method::PATCH, &path, &key, &body).await, 200).await;
        assert_eq!(changed["source"], Value::Null);
        let deleted = call(api, Method::DELETE, &connection, &key, &Value::Null).await;
        assert_eq!(deleted.status(), 204);
        server.stop().await;
    }
}

/// Writes files into the folder of the connection `archive`.
pub fn put(database: &Database, files: &[(&str, &str)]) {
    for (path, content) in files {
        let file = Path::new(&database.path("archive")).join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, content).unwrap();
        // Long enough ago for its time to be relied on.
        aged(&file, 60);
    }
}

/// Makes a file look as if it was changed so many seconds ago.
fn aged(file: &Path, seconds: u64) {
    let time = SystemTime::now() - Duration::from_secs(seconds);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

/// Runs the deployment on its source; returns its last status and its result.
pub async fn run(api: &Api, target: &Target) -> (Value, Value) {
    let id = api.accepted(target, &json!({})).await;
    let ended = api.ended(target, &id).await;
    let result = match ended["status"] == "COMPLETED" {
        true => api.result(target, &id).await,
        false => Value::Null,
    };
    (ended, result)
}

/// The paths of the documents that a run took.
fn paths(result: &Value) -> Vec<&str> {
    let files = result.as_array().unwrap().iter();
    files.map(|file| file["metadata"]["source_path"].as_str().unwrap()).collect()
}

/// Reads the text of each document, and fails for one that is `bad`.
fn texts() -> Value {
    json!([{"uses": "extract_text"},
        {"uses": "jq", "with": {"filter": "if (.text | startswith(\"bad\")) then error(\"bad\") else .text end"}}])
}

on_each_database! {
    async fn a_run_takes_what_is_new_or_changed_or_failed_before(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        put(&database, &[("in/a.txt", "one"), ("in/b/a.txt", "two"), ("in/c.txt", "bad"), ("in/d.md", "no"), ("e.txt", "no")]);
        let source = json!({"source": {"connection": "archive", "prefix": "in", "include": ["**/*.txt"]}});
        let target = deploy(api, &key, "etl", texts(), source).await;
        let (ended, result) = run(api, &target).await;
        assert_eq!((ended["status"].clone(), ended["documents"].clone()),
            (json!("COMPLETED"), json!({"total": 3, "done": 3, "failed": 1})));
        assert_eq!(paths(&result), ["in/a.txt", "in/b/a.txt", "in/c.txt"]);
        assert_eq!(result[1]["result"]["output"], "two");
        assert_eq!(result[1]["file"], "a.txt");
        // What failed is tried again, what succeeded is not.
        let (ended, _) = run(api, &target).await;
        assert_eq!((ended["status"].clone(), ended["documents"]["total"].clone()), (json!("ERROR"), json!(1)));
        put(&database, &[("in/c.txt", "good"), ("in/a.txt", "won"), ("in/0.txt", "new")]);
        assert_eq!(paths(&run(api, &target).await.1), ["in/0.txt", "in/a.txt", "in/c.txt"]);
        // Touched, but the same: read, and not processed.
        aged(&Path::new(&database.path("archive")).join("in/a.txt"), 30);
        let (ended, result) = run(api, &target).await;
        assert_eq!((ended["status"].clone(), ended["documents"]["total"].clone(), ended["steps"]["total"].clone()),
            (json!("COMPLETED"), json!(0), json!(0)));
        assert_eq!(result, json!([]));
        server.stop().await;
    }
}

/// A filter that runs until it is stopped for documents of this text.
fn held() -> Value {
    let filter = "if (.text | startswith(\"wait\")) then (def f: f; f) else .text end";
    json!([{"uses": "extract_text"}, {"uses": "jq", "with": {"filter": filter, "timeout_seconds": 60}}])
}

on_each_database! {
    async fn one_run_of_a_workflow_at_a_time_and_what_it_did_is_kept_when_it_is_stopped(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        put(&database, &[("a.txt", "one"), ("b.txt", "wait")]);
        let target = deploy(api, &key, "etl", held(), json!({"source": {"connection": "archive"}})).await;
        let first = api.accepted(&target, &json!({})).await;
        // One document has ended, and the other has not.
        follow_until(api, &target, &first, "\"a.txt\"").await;
        let path = format!("/deployment/{}/", target.public_id);
        let keyed = || api.post(&path, &target.key).header("idempotency-key", "k").json(&json!({})).send();
        for answer in [keyed().await.unwrap(), api.submit(&target, &json!({})).await] {
            let refused = refusal(answer, 409, "run_in_progress").await;
            assert!(refused["errors"][0]["detail"].as_str().unwrap().contains(&first));
        }
        // Documents of one's own are no run.
        let own = json!({"documents": [document("x", "own")]});
        let own = api.accepted(&target, &own).await;
        assert_eq!(api.ended(&target, &own).await["status"], "COMPLETED");
        assert_eq!(cancel(api, &target, &first).await.status(), 202);
        assert_eq!(api.ended(&target, &first).await["status"], "STOPPED");
        put(&database, &[("b.txt", "two")]);
        // The key was not used up by a refusal.
        let second = json_of(keyed().await.unwrap(), 202).await["execution_id"].as_str().unwrap().to_owned();
        assert_eq!(json_of(keyed().await.unwrap(), 202).await["execution_id"], second.as_str());
        assert_eq!(api.ended(&target, &second).await["status"], "COMPLETED");
        assert_eq!(paths(&api.result(&target, &second).await), ["b.txt"]);
        // Again with the same documents, whatever has become of the files.
        std::fs::remove_dir_all(database.path("archive")).unwrap();
        let rerun = managed(&format!("execution/{second}/rerun/"));
        let again = json_of(call(api, Method::POST, &rerun, &key, &json!({})).await, 202).await;
        let again = again["execution_id"].as_str().unwrap().to_owned();
        assert_eq!(api.ended(&target, &again).await["status"], "COMPLETED");
        assert_eq!(paths(&api.result(&target, &again).await), ["b.txt"]);
        // The folder is gone: there is nothing new.
        assert_eq!(run(api, &target).await.1, json!([]));
        server.stop().await;
    }
}

/// Follows an execution's events until one has this text.
async fn follow_until(api: &Api, target: &Target, id: &str, text: &str) {
    let path = format!("/deployment/{}/events/{id}/", target.public_id);
    let mut answer = api.get(&path, &target.key).send().await.unwrap();
    let mut seen = String::new();
    while !seen.contains(text) || !seen.contains("document") {
        let piece = answer.chunk().await.unwrap().expect("it comes before the end");
        seen.push_str(&String::from_utf8_lossy(&piece));
    }
}

on_each_database! {
    async fn hostile_folders_are_read_as_far_as_they_may_be(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let root = PathBuf::from(database.path("archive"));
        std::fs::create_dir_all(root.join("in/deep")).unwrap();
        std::fs::create_dir_all(database.path("outside")).unwrap();
        std::fs::write(database.path("outside/secret.txt"), "secret").unwrap();
        put(&database, &[("in/a\nb.txt", "no"), ("in/a\\b.txt", "no"), ("in/..a.txt", "dots"), ("in/ .txt", "blank"),
            ("in/deep/ä.txt", "umlaut"), ("in/large.txt", &"x".repeat(2000)), ("in/.millrace", "kept"), (".millrace/x.txt", "no")]);
        let outside = PathBuf::from(database.path("outside"));
        symlink(outside.join("secret.txt"), root.join("in/link.txt")).unwrap();
        symlink(&outside, root.join("in/folder")).unwrap();
        symlink(&outside, root.join("away")).unwrap();
        symlink(root.join("in"), root.join("in/loop")).unwrap();
        let source = |prefix: &str| json!({"max_file_bytes": 1000, "source": {"connection": "archive", "prefix": prefix}});
        let target = deploy(api, &key, "etl", texts(), source("in")).await;
        let (ended, result) = run(api, &target).await;
        assert_eq!(ended["status"], "COMPLETED", "{ended}");
        assert_eq!(paths(&result), ["in/ .txt", "in/..a.txt", "in/.millrace", "in/deep/ä.txt"]);
        for (prefix, code) in [("away", "source_refused"), ("in/folder", "source_refused")] {
            let path = managed(&format!("api-deployment/{}/", target.id));
            assert_eq!(call(api, Method::PATCH, &path, &key, &source(prefix)).await.status(), 200);
            let (ended, _) = run(api, &target).await;
            assert_eq!((ended["status"].clone(), ended["error"]["code"].clone()), (json!("ERROR"), json!(code)));
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn ten_thousand_files_come_a_run_at_a_time_in_their_order(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let root = PathBuf::from(database.path("archive"));
        for folder in 0..100 {
            std::fs::create_dir_all(root.join(format!("{folder:02}"))).unwrap();
            for file in 0..100 {
                std::fs::write(root.join(format!("{folder:02}/{file:02}")), format!("{folder} {file}")).unwrap();
            }
        }
        let source = json!({"source": {"connection": "archive", "max_files": 3}});
        let target = deploy(api, &key, "etl", json!([{"uses": "jq", "with": {"filter": "1"}}]), source).await;
        assert_eq!(paths(&run(api, &target).await.1), ["00/00", "00/01", "00/02"]);
        assert_eq!(paths(&run(api, &target).await.1), ["00/03", "00/04", "00/05"]);
        server.stop().await;
    }
}
