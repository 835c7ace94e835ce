//! Cancelling, concurrency and time limits.

use serde_json::{Value, json};

use crate::support::{Api, Server, Target, json_of, on_each_database};

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
