//! What callers used is counted exactly, also over restarts and several
//! servers.

use millrace::store::Store;
use millrace::store::usage::{Counted, Span};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};

fn path(target: &Target, query: &str) -> String {
    format!("/unstract/{ORG}/api/v2/api-deployment/{}/usage/?{query}", target.id)
}

/// The use of the last two days, over all keys.
async fn used(api: &Api, target: &Target, query: &str) -> Value {
    let answer = api.get(&path(target, query), &target.platform_key).send().await.unwrap();
    json_of(answer, 200).await
}

/// A workflow that fails where the input has no `ok`.
fn steps() -> Value {
    json!([{"uses": "validate", "with": {"schema": {"required": ["ok"]}}}])
}

async fn deploy(api: &Api) -> Target {
    let key = api.organisation(ORG).await;
    // Two permits that do not come back within the test.
    let rate = json!({"requests": 1, "per_seconds": 86_400, "burst": 6});
    api.deploy_in(ORG, &key, "demo", steps(), json!({"rate_limit": rate})).await
}

/// Requests of known outcomes: 6 permits, then 429.
async fn call(api: &Api, target: &Target) {
    let document = json!({"name": "a.txt", "content_base64": "aGVsbG8="});
    let right = json!({"input_data": {"ok": 1}, "timeout": 60});
    let with_documents =
        json!({"input_data": {"ok": 1}, "timeout": 60, "documents": [document, document]});
    let wrong = json!({"input_data": {"no": 1}, "timeout": 60});
    let done = json_of(api.submit(target, &right).await, 200).await;
    json_of(api.submit(target, &right).await, 200).await;
    json_of(api.submit(target, &with_documents).await, 200).await;
    json_of(api.submit(target, &wrong).await, 422).await;
    json_of(api.submit(target, &json!({"input_data": {"ok": 1}, "timeout": 1000})).await, 400)
        .await;
    let unstract = format!("/deployment/api/{ORG}/{}/", target.api_name);
    json_of(api.post(&unstract, &target.key).json(&right).send().await.unwrap(), 200).await;
    json_of(api.submit(target, &right).await, 429).await;
    let id = done["execution_id"].as_str().unwrap();
    for (route, status) in [("status", 200), ("result", 200)] {
        let path = format!("/deployment/{}/{route}/{id}/", target.public_id);
        json_of(api.get(&path, &target.key).send().await.unwrap(), status).await;
    }
    let cancel = format!("/deployment/{}/cancel/{id}/", target.public_id);
    json_of(api.post(&cancel, &target.key).send().await.unwrap(), 409).await;
    let asked = format!("{unstract}?execution_id={id}");
    json_of(api.get(&asked, &target.key).send().await.unwrap(), 200).await;
    let missing = format!("/deployment/{}/status/{}/", target.public_id, Uuid::now_v7());
    json_of(api.get(&missing, &target.key).send().await.unwrap(), 404).await;
    // An unknown key counts for nobody.
    json_of(api.get(&missing, &target.platform_key).send().await.unwrap(), 401).await;
}

fn expected(times: i64) -> (Value, Value, i64, i64) {
    let requests = json!({"200": 7 * times, "400": times, "404": times, "409": times,
        "422": times, "429": times});
    let executions = json!({"COMPLETED": 4 * times, "ERROR": times, "STOPPED": 0});
    (requests, executions, 2 * times, 10 * times)
}

fn told(total: &Value) -> (Value, Value, i64, i64) {
    (
        total["requests"]["by_status"].clone(),
        total["executions"]["by_status"].clone(),
        total["documents"].as_i64().unwrap(),
        total["bytes"].as_i64().unwrap(),
    )
}

on_each_database! {
    async fn counts_are_exact_and_outlive_the_server(database) {
        let server = Server::start(&database).await;
        let target = deploy(&server.api).await;
        call(&server.api, &target).await;
        server.stop().await;
        let server = Server::start(&database).await;
        for bucket in ["minute", "hour", "day"] {
            let usage = used(&server.api, &target, &format!("bucket={bucket}")).await;
            let total = &usage["total"];
            assert_eq!(told(total), expected(1), "{bucket}");
            assert_eq!(total["requests"]["total"], 12);
            assert_eq!(total["requests"]["error_rate"], 5.0 / 12.0);
            assert_eq!(total["executions"]["error_rate"], 0.2);
            assert_eq!(total["models"], json!({}));
            let seconds = &total["executions"]["seconds"];
            let [p50, p95, p99] = ["p50", "p95", "p99"].map(|name| seconds[name].as_f64().unwrap());
            assert!(0.0 < p50 && p50 <= p95 && p95 <= p99 && p99 < 60.0, "{seconds}");
            // The calls may have begun in one bucket and ended in the next.
            let results = usage["results"].as_array().unwrap();
            assert!((1..=2).contains(&results.len()), "{usage}");
            let sum: i64 =
                results.iter().map(|one| one["requests"]["total"].as_i64().unwrap()).sum();
            assert_eq!(sum, 12);
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn each_key_is_counted_for_itself(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = deploy(api).await;
        let keys = format!("/unstract/{ORG}/api/v2/api-deployment/{}/key/", target.id);
        let made = api.post(&keys, &target.platform_key).json(&json!({})).send().await.unwrap();
        let made = json_of(made, 201).await;
        let second = Target { key: made["api_key"].as_str().unwrap().to_owned(), ..target.clone() };
        let body = json!({"input_data": {"ok": 1}, "timeout": 60});
        json_of(api.submit(&target, &body).await, 200).await;
        json_of(api.submit(&second, &body).await, 200).await;
        json_of(api.submit(&second, &body).await, 200).await;
        server.engine.flush_usage().await.unwrap();
        let of = async |query: &str| {
            let total = used(api, &target, query).await["total"].clone();
            let [requests, executions] =
                ["requests", "executions"].map(|of| total[of]["total"].as_i64().unwrap());
            (requests, executions)
        };
        assert_eq!(of("").await, (3, 3));
        assert_eq!(of(&format!("key={}", made["id"].as_str().unwrap())).await, (2, 2));
        assert_eq!(of(&format!("key={}", Uuid::now_v7())).await, (0, 0));
        assert_eq!(of("to=2020-01-01T00:00:00Z").await, (0, 0));
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_on_one_postgres_add_up() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: two_servers_on_one_postgres_add_up needs Postgres");
        return;
    };
    let first = Server::start(&database).await;
    let target = deploy(&first.api).await;
    let second = Server::start(&database).await;
    tokio::join!(call(&first.api, &target), call(&second.api, &target));
    let (one, other) = tokio::join!(first.engine.flush_usage(), second.engine.flush_usage());
    one.and(other).unwrap();
    for api in [&first.api, &second.api] {
        assert_eq!(told(&used(api, &target, "bucket=day").await["total"]), expected(2));
    }
    first.stop().await;
    second.stop().await;
}

on_each_database! {
    async fn a_batch_whose_commit_was_in_doubt_is_not_added_twice(database) {
        let store = Store::open(&database.config(""), Handle::current()).await.unwrap();
        let (node, deployment_id) = (Uuid::now_v7(), Uuid::now_v7());
        let counted = |count| vec![Counted {
            deployment_id,
            key_id: Uuid::nil(),
            minute: 7200,
            counters: vec![("bytes".into(), count)],
        }];
        store.add_usage(node, 1, counted(1)).await.unwrap();
        // Tried again at the same time, twice.
        let again = [store.add_usage(node, 2, counted(10)), store.add_usage(node, 2, counted(10))];
        for added in futures_util::future::join_all(again).await {
            added.unwrap();
        }
        store.add_usage(Uuid::now_v7(), 1, counted(100)).await.unwrap();
        for span in Span::ALL {
            let rows = store.usage(deployment_id, span, 0, 7201, None).await.unwrap();
            let found: Vec<_> = rows.iter().map(|row| (row.start, row.value)).collect();
            assert_eq!(found, [(span.start(7200), 111)]);
        }
    }
}

on_each_database! {
    async fn a_wrong_question_is_refused_with_its_parameter(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = deploy(api).await;
        for (query, place) in [
            ("bucket=week", "bucket"),
            ("from=yesterday", "from"),
            ("to=1", "to"),
            ("key=none", "key"),
            ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "from"),
            ("bucket=minute&from=2020-01-01T00:00:00Z", "from"),
        ] {
            let answer = api.get(&path(&target, query), &target.platform_key).send().await.unwrap();
            let body = json_of(answer, 400).await;
            assert_eq!(body["errors"][0]["attr"], place, "{query}: {body}");
        }
        let answer = api.get(&path(&target, ""), &target.key).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let other = api.organisation("other").await;
        let answer = api.get(&path(&target, ""), &other).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        let foreign = path(&target, "").replace(ORG, "other");
        let answer = api.get(&foreign, &other).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_FOUND);
        server.stop().await;
    }
}
