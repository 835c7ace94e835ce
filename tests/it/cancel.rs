//! Cancelling, concurrency and time limits.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::support::{Api, ORG, PATIENCE, Server, Target, json_of, on_each_database};
use crate::wire::{document, managed};

/// A step that ends only when it is killed.
fn endless() -> Value {
    json!([{"uses": "jq", "with": {"filter": "def f: f; f", "timeout_seconds": 60}}])
}

async fn cancel(api: &Api, target: &Target, id: &str) -> reqwest::Response {
    let path = format!("/deployment/{}/cancel/{id}/", target.public_id);
    api.post(&path, &target.key).send().await.unwrap()
}

async fn status(api: &Api, target: &Target, id: &str, wait: u64) -> Value {
    let path = format!("/deployment/{}/status/{id}/?wait={wait}", target.public_id);
    json_of(api.get(&path, &target.key).send().await.unwrap(), 200).await
}

/// Waits until it runs.
async fn running(api: &Api, target: &Target, id: &str) {
    while status(api, target, id, 0).await["status"] == "PENDING" {
        status(api, target, id, 5).await;
    }
}

on_each_database! {
    async fn a_running_and_a_waiting_execution_are_stopped_and_the_next_one_runs(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation("acme").await;
        let target =
            api.deploy_in("acme", &key, "demo", endless(), json!({"max_concurrency": 1})).await;
        let body = json!({"input_data": 1});
        let first = api.accepted(&target, &body).await;
        let second = api.accepted(&target, &body).await;
        running(api, &target, &first).await;
        assert_eq!(status(api, &target, &second, 0).await["status"], "PENDING");

        assert_eq!(cancel(api, &target, &second).await.status(), 202);
        assert_eq!(api.ended(&target, &second).await["status"], "STOPPED");
        assert_eq!(cancel(api, &target, &first).await.status(), 202);
        assert_eq!(api.ended(&target, &first).await["status"], "STOPPED");
        assert_eq!(cancel(api, &target, &first).await.status(), 202, "asking again is the same");
        let result = format!("/deployment/{}/result/{first}/", target.public_id);
        let result = api.get(&result, &target.key).send().await.unwrap();
        assert_eq!(json_of(result, 409).await["errors"][0]["code"], "execution_stopped");

        let third = api.accepted(&target, &body).await;
        running(api, &target, &third).await;
        cancel(api, &target, &third).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn what_has_completed_cannot_be_cancelled(database) {
        let server = Server::start(&database).await;
        let target = server.api.deploy(json!([{"uses": "jq", "with": {"filter": "."}}])).await;
        let id = server.api.accepted(&target, &json!({"input_data": 1})).await;
        assert_eq!(server.api.ended(&target, &id).await["status"], "COMPLETED");
        let refused = json_of(cancel(&server.api, &target, &id).await, 409).await;
        assert_eq!(refused["errors"][0]["code"], "already_ended");
        server.stop().await;
    }
}

on_each_database! {
    async fn an_execution_that_takes_too_long_ends_as_an_error(database) {
        let server = Server::start(&database).await;
        let key = server.api.organisation("acme").await;
        let settings = json!({"execution_timeout_seconds": 1});
        let target = server.api.deploy_in("acme", &key, "demo", endless(), settings).await;
        let id = server.api.accepted(&target, &json!({"input_data": 1})).await;
        let ended = server.api.ended(&target, &id).await;
        assert_eq!(ended["status"], "ERROR");
        assert_eq!(ended["error"]["code"], "execution_timed_out");
        server.stop().await;
    }
}

/// Sandbox processes that this one has started and that still run.
fn children() -> Vec<u32> {
    let own = std::process::id().to_string();
    let program = std::fs::canonicalize(env!("CARGO_BIN_EXE_millrace")).unwrap();
    let is_child = |id: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Behind the name in brackets: state and parent.
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        let mut rest = rest.split(' ');
        let runs = rest.next() != Some("Z") && rest.next() == Some(own.as_str());
        // Before that it is still the server's fork, for which a thread of the
        // server waits: stopping it there would stop the server.
        let is_loaded =
            || std::fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|exe| exe == program);
        runs && is_loaded()
    };
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    processes.filter(is_child).collect()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect(what);
}

on_each_database! {
    async fn a_cancel_kills_the_child_processes_that_work_for_the_execution(database) {
        let server = Server::start_with(&database, "[engine]\ncancel_grace_seconds = 3600").await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let target = api.deploy_in(ORG, &key, "jq", endless(), json!({})).await;
        let mut body = json!({"documents": [document("a", "a"), document("b", "b")]});
        let id = api.accepted(&target, &body).await;
        until("it works", || !children().is_empty()).await;
        assert_eq!(cancel(api, &target, &id).await.status(), 202);
        assert_eq!(api.ended(&target, &id).await["status"], "STOPPED");
        until("the processes are killed", || children().is_empty()).await;

        // A parser, which is stopped in its work.
        let steps = json!([{"uses": "extract_text", "with": {"timeout_seconds": 300}}]);
        let target = api.deploy_in(ORG, &key, "text", steps, json!({})).await;
        body = json!({"documents": [document("large.html", &"<b><p>x ".repeat(1_000_000))]});
        let id = api.accepted(&target, &body).await;
        until("it works", || !children().is_empty()).await;
        for child in children() {
            let stopped = std::process::Command::new("kill").args(["-STOP", &child.to_string()]).status();
            assert!(stopped.unwrap().success());
        }
        assert_eq!(cancel(api, &target, &id).await.status(), 202);
        assert_eq!(api.ended(&target, &id).await["status"], "STOPPED");
        until("the parser is killed", || children().is_empty()).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn a_cancel_ends_a_load_into_a_database_that_never_answers(database) {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://loader@{}/warehouse?sslmode=disable", silent.local_addr().unwrap());
        let changes = format!(
            "[engine]\ncancel_grace_seconds = 3600\n[[connections]]\norg_id = \"{ORG}\"\n\
             name = \"silent\"\nkind = \"sql\"\nurl = \"{url}\""
        );
        let server = Server::start_with(&database, &changes).await;
        let api = &server.api;
        let steps = json!([{"uses": "load_sql", "with": {"connection": "silent", "table": "rows"}}]);
        let target = api.deploy(steps).await;
        let id = api.accepted(&target, &json!({"input_data": [{"a": 1}]})).await;
        let (mut stream, _) =
            tokio::time::timeout(PATIENCE, silent.accept()).await.expect("it connects").unwrap();
        assert_eq!(cancel(api, &target, &id).await.status(), 202);
        assert_eq!(api.ended(&target, &id).await["status"], "STOPPED");
        let mut said = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut said)).await;
        // A reset is an end as well.
        let _ = closed.expect("the connection is closed");
        server.stop().await;
    }
}

on_each_database! {
    async fn what_a_deleted_deployment_still_runs_can_be_cancelled(database) {
        let server = Server::start_with(&database, "[engine]\ncancel_grace_seconds = 3600").await;
        let api = &server.api;
        let target = api.deploy(endless()).await;
        let key = &target.platform_key;
        let id = api.accepted(&target, &json!({"input_data": 1})).await;
        running(api, &target, &id).await;
        let deployment = format!("{}{}", api.url, managed(&format!("api-deployment/{}/", target.id)));
        let deleted = api.client.delete(deployment).bearer_auth(key).send().await.unwrap();
        assert_eq!(deleted.status(), 204);
        let execution = managed(&format!("execution/{id}/"));
        let read = async || json_of(api.get(&execution, key).send().await.unwrap(), 200).await;
        assert_eq!(read().await["status"], "EXECUTING");
        let cancel = api.post(&format!("{execution}cancel/"), key).send().await.unwrap();
        assert_eq!(cancel.status(), 202);
        let stopping = async {
            while read().await["status"] != "STOPPED" {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, stopping).await.expect("it ends");
        // Told, and not merely at the end of its own time.
        let steps = api.get(&format!("{execution}steps/"), key).send().await.unwrap();
        assert_eq!(json_of(steps, 200).await["results"][0]["error"]["code"], "cancelled");
        until("its process is killed", || children().is_empty()).await;
        server.stop().await;
    }
}
