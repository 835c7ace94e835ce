//! Actors and steps that die, and what their callers notice of it.

use futures_util::future::join_all;
use millrace::faults::{DEPLOYMENT_ADMIT, STEP_RUN};
use millrace::store::Store;
use serde_json::json;
use tokio::runtime::Handle;

use crate::support::{Database, Server, json_of, on_each_database};

on_each_database! {
    async fn a_deployment_actor_that_dies_is_rebuilt_and_forgets_nothing(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation("acme").await;
        let steps = json!([{"uses": "jq", "with": {"filter": ".n"}}]);
        let target = api.deploy_in("acme", &key, "demo", steps, json!({"max_concurrency": 1})).await;
        let submit = |n: usize| {
            let target = target.clone();
            async move { api.submit(&target, &json!({"input_data": {"n": n}})).await }
        };
        // While these wait for their turns, the actor dies among further ones.
        let before = join_all((0..20).map(submit)).await;
        fail::cfg(DEPLOYMENT_ADMIT, "1*panic(killed by a test)").unwrap();
        let during = join_all((20..40).map(submit)).await;
        fail::remove(DEPLOYMENT_ADMIT);
        let after = submit(40).await;
        assert_eq!(after.status(), 202, "the next request is served");
        let mut accepted = 0;
        for answer in before.into_iter().chain(during).chain([after]) {
            // Who asked while it was away was told so, and to come back.
            if answer.status() == 503 {
                assert!(answer.headers().contains_key("retry-after"));
                continue;
            }
            let body = json_of(answer, 202).await;
            let id = body["execution_id"].as_str().unwrap().to_owned();
            assert_eq!(api.ended(&target, &id).await["status"], "COMPLETED");
            accepted += 1;
        }
        assert!(accepted >= 21, "{accepted} of 41 accepted");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_step_that_panics_fails_its_document_and_nothing_else(database) {
        let server = Server::start(&database).await;
        let target = server.api.deploy(json!([{"uses": "template", "with": {"template": "x"}}])).await;
        fail::cfg(STEP_RUN, "1*panic(killed by a test)").unwrap();
        let body = json!({"input_data": 1, "documents": [
            {"name": "a", "content_base64": "YQ=="}, {"name": "b", "content_base64": "Yg=="}]});
        let id = server.api.accepted(&target, &body).await;
        let status = server.api.ended(&target, &id).await;
        fail::remove(STEP_RUN);
        assert_eq!(status["status"], "COMPLETED");
        assert_eq!(status["documents"], json!({"total": 2, "done": 2, "failed": 1}));
        let result = server.api.result(&target, &id).await;
        let statuses: Vec<_> = result.as_array().unwrap().iter().map(|file| &file["status"]).collect();
        assert!(statuses.contains(&&json!("Failed")) && statuses.contains(&&json!("Success")));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_one_sqlite_database_is_refused_and_the_first_goes_on() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let second = Store::open(&database.config(""), Handle::current()).await;
    let refusal = second.err().expect("it is refused").to_string();
    assert!(refusal.contains("in use by another server"), "{refusal}");
    let ready = server.api.get("/health/ready", "").send().await.unwrap();
    assert_eq!(ready.status(), 200);
    server.stop().await;
    Store::open(&database.config(""), Handle::current()).await.expect("free again");
}

on_each_database! {
    async fn two_servers_in_one_process_know_nothing_of_each_other(database) {
        let first = Server::start(&database).await;
        let other = Database::sqlite();
        let second = Server::start(&other).await;
        let target = first.api.deploy(json!([{"uses": "jq", "with": {"filter": "."}}])).await;
        let body = json!({"input_data": 1});
        let id = first.api.accepted(&target, &body).await;
        assert_eq!(first.api.ended(&target, &id).await["status"], "COMPLETED");
        assert_eq!(second.api.submit(&target, &body).await.status(), 401);
        first.stop().await;
        second.stop().await;
    }
}
