//! A server that dies, and one that is told to end.

use futures_util::future::join_all;
use serde_json::json;

use crate::support::{Api, Database, PATIENCE, Process, Target, json_of, on_each_database};

/// So that the other node counts as gone soon.
const SHORT_LEASE: &[(&str, &str)] = &[("MILLRACE_ENGINE__LEASE_SECONDS", "2")];

/// Executions under way when the server dies.
const EXECUTIONS: usize = 200;

async fn submit_many(api: &Api, target: &Target) -> Vec<String> {
    let submitted = (0..EXECUTIONS)
        .map(|n| async move { api.accepted(target, &json!({"input_data": {"n": n}})).await });
    join_all(submitted).await
}

async fn deploy(api: &Api) -> Target {
    let key = api.organisation("acme").await;
    let steps = json!([
        {"id": "one", "uses": "jq", "with": {"filter": "[range(.n)] | add // 0"}},
        {"id": "two", "uses": "jq", "with": {"filter": ". + 1"}},
    ]);
    api.deploy_in("acme", &key, "demo", steps, json!({"max_concurrency": 4})).await
}

async fn assert_all_complete(api: &Api, target: &Target, ids: &[String]) {
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(api.ended(target, id).await["status"], "COMPLETED", "execution {n}");
        let result = api.result(target, id).await;
        assert_eq!(result[0]["result"]["output"], n * n.saturating_sub(1) / 2 + 1);
    }
}

on_each_database! {
    async fn all_that_was_accepted_completes_after_a_kill_in_the_middle(database) {
        let server = Process::start(&database, SHORT_LEASE).await;
        let target = deploy(&server.api).await;
        let ids = submit_many(&server.api, &target).await;
        // The first has ended and the last has not: the middle.
        server.api.ended(&target, &ids[0]).await;
        let last = format!("/deployment/{}/status/{}/", target.public_id, ids[EXECUTIONS - 1]);
        let last = json_of(server.api.get(&last, &target.key).send().await.unwrap(), 200).await;
        assert_eq!(last["status"], "PENDING");
        server.kill();
        let server = Process::start(&database, SHORT_LEASE).await;
        assert_all_complete(&server.api, &target, &ids).await;
    }
}

on_each_database! {
    async fn a_server_that_is_told_to_end_hands_its_work_on(database) {
        let settings = [("MILLRACE_ENGINE__LEASE_SECONDS", "60")];
        let server = Process::start(&database, &settings).await;
        let target = deploy(&server.api).await;
        let ids = submit_many(&server.api, &target).await;
        server.api.ended(&target, &ids[0]).await;
        assert!(server.terminate(), "it ends well");
        // Handed back, so nobody waits for a lease of a minute.
        let server = Process::start(&database, &settings).await;
        assert_all_complete(&server.api, &target, &ids).await;
        assert!(server.terminate());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_node_goes_on_with_what_a_dead_one_began_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: a_spare_node_goes_on needs Postgres");
        return;
    };
    let server = Process::start(&database, SHORT_LEASE).await;
    let spare = Process::start(&database, SHORT_LEASE).await;
    let target = deploy(&server.api).await;
    let ids = submit_many(&server.api, &target).await;
    server.api.ended(&target, &ids[0]).await;
    server.kill();
    // It learns of deployment and keys together with the work.
    let path = format!("/deployment/{}/status/{}/", target.public_id, ids[0]);
    let known =
        async { while spare.api.get(&path, &target.key).send().await.unwrap().status() == 401 {} };
    tokio::time::timeout(PATIENCE, known).await.expect("it takes over");
    assert_all_complete(&spare.api, &target, &ids).await;
}

on_each_database! {
    async fn an_execution_that_was_running_at_every_death_is_not_tried_for_ever(database) {
        let settings = [SHORT_LEASE[0], ("MILLRACE_ENGINE__MAX_RECOVERIES", "1")];
        let mut server = Process::start(&database, &settings).await;
        let key = server.api.organisation("acme").await;
        let endless = json!([{"uses": "jq", "with": {"filter": "def f: f; f", "timeout_seconds": 60}}]);
        let target = server.api.deploy_in("acme", &key, "demo", endless, json!({})).await;
        let id = server.api.accepted(&target, &json!({"input_data": 1})).await;
        // The first death may come before the store knows that it ran.
        for _ in 0..3 {
            let status = format!("/deployment/{}/status/{id}/", target.public_id);
            loop {
                let answer = server.api.get(&status, &target.key).send().await.unwrap();
                let known = json_of(answer, 200).await;
                // Steps are known of an execution that this life has in hand.
                if known["steps"]["total"] == 1 || known["status"] == "ERROR" {
                    break;
                }
            }
            server.kill();
            server = Process::start(&database, &settings).await;
        }
        let ended = server.api.ended(&target, &id).await;
        assert_eq!(ended["status"], "ERROR");
        assert_eq!(ended["error"]["code"], "execution_quarantined");
    }
}
