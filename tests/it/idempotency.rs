//! What is sent again under its key runs once.

use chrono::{TimeDelta, Utc};
use futures_util::future::join_all;
use millrace_entities::{execution, idempotency_key};
use reqwest::header::HeaderValue;
use reqwest::multipart::{Form, Part};
use reqwest::{Method, RequestBuilder, Response};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};

use crate::support::{Api, Database, ORG, PATIENCE, Server, Target, json_of, on_each_database};
use crate::wire::{call, cancel, echo, endless, header, managed, places, refusal, running};

const KEY: &str = "8e03978e-40d5-43dd-bc93-6894a57f9324";

fn product(target: &Target) -> String {
    format!("/deployment/{}/", target.public_id)
}

fn unstract(target: &Target) -> String {
    format!("/deployment/api/{ORG}/{}/", target.api_name)
}

fn request(api: &Api, path: &str, target: &Target, key: &str) -> RequestBuilder {
    api.post(path, &target.key).header("Idempotency-Key", key)
}

async fn submit(api: &Api, target: &Target, key: &str, body: &Value) -> Response {
    request(api, &product(target), target, key).json(body).send().await.unwrap()
}

fn is_replay(answer: &Response) -> bool {
    answer.headers().get("idempotent-replayed").is_some_and(|value| value == "true")
}

/// Fails unless the submission is accepted for the first time; returns the
/// execution's id.
async fn first(answer: Response) -> String {
    assert!(!is_replay(&answer));
    id_of(&json_of(answer, 202).await)
}

/// Fails unless the answer is one that was given before.
async fn replayed(answer: Response, status: u16) -> Value {
    assert!(is_replay(&answer), "{answer:?}");
    json_of(answer, status).await
}

async fn mismatch(answer: Response) {
    assert!(!answer.headers().contains_key("idempotent-replayed"));
    let body = refusal(answer, 422, "idempotency_mismatch").await;
    assert_eq!(places(&body), ["Idempotency-Key"]);
}

fn id_of(body: &Value) -> String {
    body["execution_id"].as_str().unwrap().to_owned()
}

async fn connect(database: &Database) -> DatabaseConnection {
    sea_orm::Database::connect(&database.url).await.unwrap()
}

async fn executions(db: &DatabaseConnection) -> u64 {
    execution::Entity::find().count(db).await.unwrap()
}

/// Lets the time of every key run out.
async fn expire_keys(db: &DatabaseConnection) -> u64 {
    let past = Utc::now() - TimeDelta::seconds(1);
    let keys = idempotency_key::Entity::update_many()
        .col_expr(idempotency_key::Column::ExpiresAt, Expr::value(past));
    keys.exec(db).await.unwrap().rows_affected
}

/// Waits until every place in a server is given back.
async fn idle(server: &Server) {
    let accepted = &server.engine.context().accepted;
    let waiting = async {
        while accepted.taken() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("every place is given back");
}

on_each_database! {
    async fn the_same_request_under_the_same_key_is_answered_as_at_first_and_runs_once(database) {
        let server = Server::start(&database).await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = api.deploy(echo()).await;
        let body = json!({"input_data": {"a": 1, "b": {"c": 2, "d": 3}}, "tags": ["t"]});
        let answer = submit(api, &target, KEY, &body).await;
        let (place, wait) = (header(&answer, "location").to_owned(), header(&answer, "retry-after").to_owned());
        assert!(!answer.headers().contains_key("idempotent-replayed"));
        let told = json_of(answer, 202).await;
        let id = id_of(&told);

        for _ in 0..2 {
            // The order of members does not count.
            let again = json!({"tags": ["t"], "input_data": {"b": {"d": 3, "c": 2}, "a": 1}});
            let answer = submit(api, &target, KEY, &again).await;
            assert_eq!((header(&answer, "location"), header(&answer, "retry-after")), (&*place, &*wait));
            assert_eq!(replayed(answer, 202).await, told);
            let answer = request(api, &unstract(&target), &target, KEY).json(&body).send().await;
            assert_eq!(replayed(answer.unwrap(), 200).await, told);
            // The second time it has ended.
            assert_eq!(api.ended(&target, &id).await["status"], "COMPLETED");
        }
        // How long to wait is each one's own affair.
        let waiting = json!({"input_data": body["input_data"], "tags": ["t"], "timeout": 60});
        let result = replayed(submit(api, &target, KEY, &waiting).await, 200).await;
        assert_eq!((&result["execution_id"], &result["status"]), (&json!(id), &json!("COMPLETED")));
        assert_eq!(result["result"][0]["result"]["output"], body["input_data"]);

        // The key is the deployment's: it outlives the key that it was sent with.
        let keys = managed(&format!("api-deployment/{}/key/", target.id));
        let made = call(api, Method::POST, &keys, &target.platform_key, &json!({})).await;
        let key = json_of(made, 201).await["api_key"].as_str().unwrap().to_owned();
        let rotated = Target { key, ..target.clone() };
        assert_eq!(replayed(submit(api, &rotated, KEY, &body).await, 202).await, told);
        assert_eq!(executions(&db).await, 1);

        // Without a key, or with another, it is another submission.
        assert_ne!(api.accepted(&target, &body).await, id);
        assert_ne!(first(submit(api, &target, "other", &body).await).await, id);
        let other = api.deploy_in(ORG, &target.platform_key, "other", echo(), json!({})).await;
        assert_ne!(first(submit(api, &other, KEY, &body).await).await, id);
        assert_eq!(executions(&db).await, 4);
        idle(&server).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn another_request_under_the_same_key_is_refused(database) {
        let server = Server::start(&database).await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = api.deploy(echo()).await;
        let body = json!({"input_data": [1, 2]});
        let id = first(submit(api, &target, KEY, &body).await).await;
        for other in [
            json!({"input_data": [2, 1]}),
            json!({"input_data": [1, 2], "parameters": {"a": 1}}),
            json!({"input_data": [1, 2], "custom_data": {"a": 1}}),
            json!({"input_data": [1, 2], "tags": ["t"]}),
            json!({"input_data": [1, 2], "include_metadata": true}),
            json!({"input_data": [1, 2], "documents": [{"name": "a", "content_base64": "YQ=="}]}),
        ] {
            mismatch(submit(api, &target, KEY, &other).await).await;
            let answer = request(api, &unstract(&target), &target, KEY).json(&other).send().await;
            mismatch(answer.unwrap()).await;
        }
        assert_eq!(id_of(&replayed(submit(api, &target, KEY, &body).await, 202).await), id);
        assert_eq!(executions(&db).await, 1);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_form_is_the_same_if_its_documents_are(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(json!([{"uses": "extract_text"}])).await;
        let send = async |files: &[(&str, &str, &str)]| {
            let file = |form: Form, (name, content, media): &(&str, &str, &str)| {
                let part = Part::text((*content).to_owned()).file_name((*name).to_owned());
                form.part("files", part.mime_str(media).unwrap())
            };
            let form = files.iter().fold(Form::new(), file);
            request(api, &product(&target), &target, KEY).multipart(form).send().await.unwrap()
        };
        let (a, b) = (("a.txt", "one", "text/plain"), ("b.txt", "two", "text/plain"));
        let id = first(send(&[a, b]).await).await;
        assert_eq!(id_of(&replayed(send(&[a, b]).await, 202).await), id);
        for files in [
            &[b, a][..], &[a], &[a, b, b],
            &[a, ("b.txt", "three", "text/plain")],
            &[a, ("c.txt", "two", "text/plain")],
            &[a, ("b.txt", "two", "text/markdown")],
        ] {
            mismatch(send(files).await).await;
        }
        // In JSON it is the same where it says as much.
        let inline = json!({"documents": [
            {"name": "a.txt", "content_base64": "b25l", "mime_type": "text/plain"},
            {"name": "b.txt", "content_base64": "dHdv", "mime_type": "text/plain"}]});
        assert_eq!(id_of(&replayed(submit(api, &target, KEY, &inline).await, 202).await), id);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_submission_whose_first_still_runs_is_the_same_execution(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(endless()).await;
        let body = json!({"input_data": 1});
        let id = first(submit(api, &target, KEY, &body).await).await;
        running(api, &target, &id).await;
        let told = replayed(submit(api, &target, KEY, &body).await, 202).await;
        assert_eq!((&told["execution_id"], &told["status"]), (&json!(id), &json!("PENDING")));
        assert_eq!(server.engine.context().accepted.taken(), 1);

        // Who waits hears of the end as the first would.
        let waiting = json!({"input_data": 1, "timeout": 60});
        let (answer, _) = tokio::join!(submit(api, &target, KEY, &waiting), cancel(api, &target, &id));
        assert!(is_replay(&answer) && header(&answer, "location").contains(&id));
        refusal(answer, 409, "execution_stopped").await;
        let answer = request(api, &unstract(&target), &target, KEY).json(&waiting).send().await;
        assert_eq!(id_of(&replayed(answer.unwrap(), 422).await), id);
        idle(&server).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn what_starts_nothing_costs_nothing_of_the_rate_limit(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let limits = json!({"rate_limit": {"requests": 1, "per_seconds": 86_400, "burst": 3}, "max_queued": 0});
        let target = api.deploy_in(ORG, &key, "demo", echo(), limits).await;
        let body = json!({"input_data": 1});
        let id = first(submit(api, &target, KEY, &body).await).await;
        for _ in 0..10 {
            assert_eq!(id_of(&replayed(submit(api, &target, KEY, &body).await, 202).await), id);
            mismatch(submit(api, &target, KEY, &json!({"input_data": 2})).await).await;
        }
        for key in ["2", "3"] {
            first(submit(api, &target, key, &body).await).await;
        }
        refusal(submit(api, &target, KEY, &body).await, 429, "rate_limited").await;
        idle(&server).await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_no_key_is_refused_by_its_name_and_the_body_is_not_looked_at() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let long = "k".repeat(256);
    for text in ["".as_bytes(), b"a b", b"a\tb", "ä".as_bytes(), b"\xff", long.as_bytes()] {
        let value = HeaderValue::from_bytes(text).unwrap();
        for path in [product(&target), unstract(&target)] {
            let request = api.post(&path, &target.key).header("idempotency-key", value.clone());
            let answer = request.json(&json!({"unknown": 1})).send().await.unwrap();
            let body = refusal(answer, 400, "invalid_value").await;
            assert_eq!(places(&body), ["Idempotency-Key"]);
        }
    }
    let twice = request(api, &product(&target), &target, "a").header("idempotency-key", "a");
    let answer = twice.json(&json!({"input_data": 1})).send().await.unwrap();
    assert_eq!(places(&refusal(answer, 400, "invalid_value").await), ["Idempotency-Key"]);
    for key in ["!", &long[1..]] {
        first(submit(api, &target, key, &json!({"input_data": 1})).await).await;
    }
    server.stop().await;
}

on_each_database! {
    async fn where_the_answer_of_a_commit_was_lost_the_next_try_finds_the_first(database) {
        let server = Server::start(&database).await;
        let db = connect(&database).await;
        let target = server.api.deploy(echo()).await;
        let body = json!({"input_data": 1});
        fail::cfg("accept-after-commit", "1*return(error)").unwrap();
        let lost = submit(&server.api, &target, KEY, &body).await;
        fail::remove("accept-after-commit");
        refusal(lost, 503, "store_unavailable").await;
        idle(&server).await;
        let told = replayed(submit(&server.api, &target, KEY, &body).await, 202).await;
        let id = id_of(&told);
        mismatch(submit(&server.api, &target, KEY, &json!({"input_data": 2})).await).await;
        // So does the next life of the server.
        server.stop().await;
        let server = Server::start(&database).await;
        let again = replayed(submit(&server.api, &target, KEY, &body).await, 202).await;
        assert_eq!(id_of(&again), id);
        assert_eq!(server.api.ended(&target, &id).await["status"], "COMPLETED");
        assert_eq!(executions(&db).await, 1);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_key_is_free_again_after_its_time_and_is_swept_up(database) {
        let server = Server::start_with(&database, "[retention]\nbatch = 2").await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = api.deploy(echo()).await;
        let body = json!({"input_data": 1});
        let began = Utc::now();
        let id = first(submit(api, &target, KEY, &body).await).await;
        let row = idempotency_key::Entity::find().one(&db).await.unwrap().unwrap();
        let kept = row.expires_at - began;
        assert!(kept >= TimeDelta::hours(24) && kept < TimeDelta::hours(25), "{kept}");
        assert_eq!(row.execution_id.to_string(), id);
        assert_eq!(server.engine.sweep_once().await.unwrap().keys, 0);

        // Whether the sweeper has come or not.
        assert_eq!(expire_keys(&db).await, 1);
        let other = json!({"input_data": 2});
        let second = first(submit(api, &target, KEY, &other).await).await;
        assert_eq!(id_of(&replayed(submit(api, &target, KEY, &other).await, 202).await), second);
        mismatch(submit(api, &target, KEY, &body).await).await;

        for key in ["2", "3", "4", "5"] {
            first(submit(api, &target, key, &body).await).await;
        }
        let kept = idempotency_key::Column::ExecutionId.eq(second.parse::<uuid::Uuid>().unwrap());
        assert_eq!(expire_keys(&db).await, 5);
        let future = Expr::value(Utc::now() + TimeDelta::hours(1));
        let later = idempotency_key::Entity::update_many().filter(kept);
        later.col_expr(idempotency_key::Column::ExpiresAt, future).exec(&db).await.unwrap();
        let swept = [(); 3].map(|()| server.engine.sweep_once());
        let mut keys = Vec::new();
        for pass in swept {
            keys.push(pass.await.unwrap().keys);
        }
        assert_eq!(keys, [2, 2, 0]);
        assert_eq!(idempotency_key::Entity::find().count(&db).await.unwrap(), 1);
        assert_eq!(id_of(&replayed(submit(api, &target, KEY, &other).await, 202).await), second);
        server.stop().await;
    }
}

on_each_database! {
    async fn that_a_submission_was_accepted_is_still_said_when_its_result_is_gone(database) {
        let server = Server::start_with(&database, "[retention]\ntombstone_days = 0").await;
        let (api, db) = (&server.api, connect(&database).await);
        let key = api.organisation(ORG).await;
        let target = api.deploy_in(ORG, &key, "demo", echo(), json!({"result_ttl_seconds": 60})).await;
        let body = json!({"input_data": 1, "timeout": 60});
        let told = json_of(submit(api, &target, KEY, &body).await, 200).await;
        let past = Utc::now() - TimeDelta::days(1);
        let expired = execution::Entity::update_many()
            .col_expr(execution::Column::ExpiresAt, Expr::value(past));
        expired.exec(&db).await.unwrap();
        let still = async || {
            let answer = replayed(submit(api, &target, KEY, &body).await, 202).await;
            assert_eq!((&answer["execution_id"], &answer["status"]), (&told["execution_id"], &json!("PENDING")));
        };
        still().await;
        while server.engine.sweep_once().await.unwrap().tombstones == 0 {}
        assert_eq!(executions(&db).await, 0);
        still().await;
        server.stop().await;
    }
}

/// Callers that send one of two requests under each of `keys` at once, in
/// turn through `servers`. Each key must have become one execution, whose
/// request is answered by it and by nobody else.
async fn storm(servers: &[&Server], target: &Target, keys: usize, callers: usize) {
    let submissions = (0..keys * callers).map(|n| {
        let (key, api) = (n % keys, &servers[n / keys % servers.len()].api);
        let flavour = n / keys / servers.len() % 2;
        let body = json!({"input_data": {"key": key, "flavour": flavour}});
        async move {
            let answer = submit(api, target, &format!("key-{key}"), &body).await;
            (
                key,
                flavour,
                is_replay(&answer),
                answer.status(),
                answer.json::<Value>().await.unwrap(),
            )
        }
    });
    let answers = join_all(submissions).await;
    for key in 0..keys {
        let of_key = || answers.iter().filter(|answer| answer.0 == key);
        let firsts: Vec<_> = of_key().filter(|answer| answer.3 == 202 && !answer.2).collect();
        assert_eq!(firsts.len(), 1, "key {key}: {:?}", of_key().collect::<Vec<_>>());
        let (_, flavour, _, _, told) = firsts[0];
        for (_, other, is_replay, status, body) in of_key() {
            if other == flavour {
                assert_eq!((status.as_u16(), &body["execution_id"]), (202, &told["execution_id"]));
            } else {
                let code = &body["errors"][0]["code"];
                assert_eq!(
                    (status.as_u16(), is_replay, code),
                    (422, &false, &json!("idempotency_mismatch"))
                );
            }
        }
        let id = id_of(told);
        assert_eq!(servers[0].api.ended(target, &id).await["status"], "COMPLETED");
        let result = servers[0].api.result(target, &id).await;
        assert_eq!(result[0]["result"]["output"], json!({"key": key, "flavour": flavour}));
    }
}

/// A deployment whose permits do not come back by themselves, so that each one
/// can be counted.
async fn counted(api: &Api) -> Target {
    let key = api.organisation(ORG).await;
    let limits = json!({"rate_limit": {"requests": 1, "per_seconds": 86_400, "burst": 5000}});
    api.deploy_in(ORG, &key, "demo", echo(), limits).await
}

/// Permits that are left.
async fn permits(server: &Server, target: &Target) -> usize {
    let entry = server.engine.deployment_named(&target.public_id).unwrap();
    server.engine.rate(&entry).await.unwrap().remaining
}

on_each_database! {
    async fn storm_of_equal_and_other_requests_becomes_one_execution_for_each_key(database) {
        let server = Server::start_with(&database, "[database]\ncommitters = 4").await;
        let target = counted(&server.api).await;
        for round in 0..3 {
            let before = permits(&server, &target).await;
            storm(&[&server], &target, 8, 60).await;
            idle(&server).await;
            // Keys of an earlier round are answered, and cost nothing.
            let db = connect(&database).await;
            assert_eq!(permits(&server, &target).await, before - 8);
            assert_eq!(executions(&db).await, 8 * (round + 1));
            expire_keys(&db).await;
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn storm_over_two_nodes_becomes_one_execution_for_each_key_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: two nodes need Postgres");
        return;
    };
    let changes = "[database]\ncommitters = 4";
    let (a, b) = (
        Server::start_with(&database, changes).await,
        Server::start_with(&database, changes).await,
    );
    let target = counted(&a.api).await;
    let known = async {
        while b.engine.deployment_named(&target.public_id).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, known).await.expect("the other node hears of it");
    let db = connect(&database).await;
    for round in 0..3 {
        let before = permits(&a, &target).await + permits(&b, &target).await;
        storm(&[&a, &b], &target, 8, 60).await;
        idle(&a).await;
        idle(&b).await;
        assert_eq!(permits(&a, &target).await + permits(&b, &target).await, before - 8);
        assert_eq!(executions(&db).await, 8 * (round + 1));
        expire_keys(&db).await;
    }
    a.stop().await;
    b.stop().await;
}
