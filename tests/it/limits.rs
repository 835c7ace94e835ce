//! A limit that is changed holds for the next request, whichever way it goes,
//! and not for what is in flight.

use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{
    call, cancel, connect, document, echo, endless, managed, parsed, refusal, running, until_closed,
};

/// Changes a deployment.
pub async fn change(api: &Api, target: &Target, fields: Value) -> Value {
    let path = managed(&format!("api-deployment/{}/", target.id));
    let answer = call(api, Method::PATCH, &path, &target.platform_key, &fields).await;
    json_of(answer, 200).await
}

/// Fails unless a submission was accepted (no code), or refused with this one
/// and told what is left of the rate limit.
pub async fn assert_answer(answer: Response, status: u16, code: &str) {
    if code.is_empty() {
        json_of(answer, status).await;
        return;
    }
    if status != 403 {
        assert!(answer.headers().contains_key("ratelimit-remaining"), "{code}");
    }
    refusal(answer, status, code).await;
}

on_each_database! {
    async fn a_changed_limit_holds_for_the_next_request(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let input = json!({"input_data": {"n": 1}});
        let files = json!({"documents": [document("a", "four"), document("b", "four")]});
        let schema = |kind: &str| json!({"properties": {"n": {"type": kind}}});
        for (fields, body, status, code) in [
            (json!({"max_files": 1}), &files, 413, "payload_too_large"),
            (json!({"max_files": 2}), &files, 202, ""),
            (json!({"max_file_bytes": 3}), &files, 413, "payload_too_large"),
            (json!({"max_file_bytes": 4}), &files, 202, ""),
            (json!({"allowed_mime_types": ["image/*"]}), &files, 422, "unsupported_document"),
            (json!({"allowed_mime_types": ["text/plain"]}), &files, 202, ""),
            (json!({"allowed_mime_types": ["application/pdf"]}), &files, 422, "unsupported_document"),
            (json!({"allowed_mime_types": null}), &files, 202, ""),
            (json!({"input_schema": schema("string")}), &input, 400, "input_schema_violated"),
            (json!({"input_schema": schema("integer")}), &input, 202, ""),
            (json!({"input_schema": schema("null")}), &input, 400, "input_schema_violated"),
            (json!({"input_schema": null}), &input, 202, ""),
            (json!({"ip_allowlist": ["192.0.2.0/24"]}), &input, 403, "address_not_allowed"),
            (json!({"ip_allowlist": ["192.0.2.0/24", "127.0.0.0/8"]}), &input, 202, ""),
            (json!({"ip_allowlist": ["::/0"]}), &input, 403, "address_not_allowed"),
            (json!({"ip_allowlist": []}), &input, 202, ""),
            (json!({"is_active": false}), &input, 409, "deployment_inactive"),
            (json!({"is_active": true}), &input, 202, ""),
        ] {
            let changed = change(api, &target, fields.clone()).await;
            let (name, value) = fields.as_object().unwrap().iter().next().unwrap();
            assert_eq!(&changed[name], value, "it is told as it was set");
            assert_answer(api.submit(&target, body).await, status, code).await;
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn a_changed_rate_holds_for_the_next_request(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let rate = |burst| json!({"rate_limit": {"requests": 1, "per_seconds": 86_400, "burst": burst}});
        let left = async || {
            let answer = api.submit(&target, &json!({"input_data": 1})).await;
            let header = |name: &str| answer.headers()[name].to_str().unwrap().parse::<u64>().unwrap();
            (answer.status().as_u16(), header("ratelimit-limit"), header("ratelimit-remaining"))
        };
        // A lower burst caps what is left.
        change(api, &target, rate(2)).await;
        assert_eq!(left().await, (202, 2, 1));
        assert_eq!(left().await, (202, 2, 0));
        assert_eq!(left().await, (429, 2, 0));
        // A higher one gives what it has more, at once.
        change(api, &target, rate(4)).await;
        assert_eq!(left().await, (202, 4, 1));
        // What changes nothing of the rate gives nothing.
        change(api, &target, json!({"max_files": 3})).await;
        assert_eq!(left().await, (202, 4, 0));
        change(api, &target, rate(1)).await;
        assert_eq!(left().await, (429, 1, 0));
        server.stop().await;
    }
}

on_each_database! {
    async fn changed_places_hold_for_the_next_request_and_for_what_waits(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let settings = json!({"max_concurrency": 1, "max_queued": 0});
        let target = api.deploy_in(ORG, &key, "demo", endless(), settings).await;
        let body = json!({"input_data": 1});
        let first = api.accepted(&target, &body).await;
        running(api, &target, &first).await;
        assert_answer(api.submit(&target, &body).await, 429, "queue_full").await;
        change(api, &target, json!({"max_queued": 1})).await;
        let second = api.accepted(&target, &body).await;
        change(api, &target, json!({"max_queued": 0})).await;
        assert_answer(api.submit(&target, &body).await, 429, "queue_full").await;

        change(api, &target, json!({"max_concurrency": 2, "max_queued": 1})).await;
        running(api, &target, &second).await;
        let third = api.accepted(&target, &body).await;
        change(api, &target, json!({"max_concurrency": 1})).await;
        cancel(api, &target, &first).await;
        api.ended(&target, &first).await;
        let path = format!("/deployment/{}/status/{third}/", target.public_id);
        let status = json_of(api.get(&path, &target.key).send().await.unwrap(), 200).await;
        assert_eq!(status["status"], "PENDING", "one runs, and one may");
        cancel(api, &target, &second).await;
        running(api, &target, &third).await;
        cancel(api, &target, &third).await;
        api.ended(&target, &third).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn executions_in_flight_keep_the_revision_they_began_with(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let says = |word: &str| {
            let filter = format!("if .wait then def f: f; f else \"{word}\" end");
            json!([{"uses": "jq", "with": {"filter": filter, "timeout_seconds": 60}}])
        };
        let settings = json!({"max_concurrency": 1});
        let target = api.deploy_in(ORG, &key, "demo", says("old"), settings).await;
        let runs = api.accepted(&target, &json!({"input_data": {"wait": true}})).await;
        running(api, &target, &runs).await;
        let waits = api.accepted(&target, &json!({"input_data": {}})).await;

        let found = json_of(api.get(&managed("workflow/"), &key).send().await.unwrap(), 200).await;
        let workflow = managed(&format!("workflow/{}/", found["results"][0]["id"].as_str().unwrap()));
        let answer = call(api, Method::PATCH, &workflow, &key, &json!({"steps": says("new")})).await;
        json_of(answer, 200).await;
        change(api, &target, json!({"execution_timeout_seconds": 1, "max_concurrency": 3})).await;
        let next = api.accepted(&target, &json!({"input_data": {}})).await;
        let slow = api.accepted(&target, &json!({"input_data": {"wait": true}})).await;
        for (id, word) in [(&waits, "old"), (&next, "new")] {
            assert_eq!(api.ended(&target, id).await["status"], "COMPLETED");
            assert_eq!(api.result(&target, id).await[0]["result"]["output"], word);
        }
        // The new time is that of the new one alone.
        assert_eq!(api.ended(&target, &slow).await["status"], "ERROR");
        running(api, &target, &runs).await;
        assert_eq!(cancel(api, &target, &runs).await.status(), 202, "it runs still");
        api.ended(&target, &runs).await;

        change(api, &target, json!({"execution_timeout_seconds": 3600})).await;
        let long = api.accepted(&target, &json!({"input_data": {"wait": true}})).await;
        running(api, &target, &long).await;
        cancel(api, &target, &long).await;
        assert_eq!(api.ended(&target, &long).await["status"], "STOPPED");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_changed_time_for_requests_holds_for_the_next_one(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let body = b"{\"input_data\": 1}";
        let begin = async || {
            let mut stream = connect(api).await;
            let head = format!(
                "POST /deployment/{}/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: \
                 close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                target.public_id, target.key, body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream
        };
        // What the longer time is for begins before the shorter one is set.
        let mut patient = begin().await;
        let admitted = async {
            while server.engine.context().accepted.taken() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(crate::support::PATIENCE, admitted).await.unwrap();
        change(api, &target, json!({"request_timeout_seconds": 1})).await;
        let (status, refused) = parsed(&until_closed(&mut begin().await).await);
        assert_eq!((status, &refused["errors"][0]["code"]), (408, &json!("request_timeout")));
        patient.write_all(body).await.unwrap();
        assert_eq!(parsed(&until_closed(&mut patient).await).0, 202);
        change(api, &target, json!({"request_timeout_seconds": 300})).await;
        let mut patient = begin().await;
        patient.write_all(body).await.unwrap();
        assert_eq!(parsed(&until_closed(&mut patient).await).0, 202);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_that_cannot_hold_is_refused_with_its_place_and_changes_nothing() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let path = managed(&format!("api-deployment/{}/", target.id));
    for (fields, place) in [
        (json!({"ip_allowlist": ["10.0.0.0/8", "10.0.0.1"]}), "ip_allowlist[1]"),
        (json!({"ip_allowlist": "10.0.0.0/8"}), "ip_allowlist"),
        (json!({"allowed_mime_types": ["pdf"]}), "allowed_mime_types[0]"),
        (json!({"allowed_mime_types": []}), "allowed_mime_types"),
        (json!({"input_schema": {"type": "money"}}), "input_schema/type"),
        (json!({"input_schema": {"$ref": "http://127.0.0.1:1/x"}}), "input_schema"),
        (json!({"input_schema": {"pattern": "(?=a)"}}), "input_schema/pattern"),
        (json!({"input_schema": [1]}), "input_schema"),
        (json!({"public_docs": 1}), "public_docs"),
        (json!({"allowed_types": []}), "allowed_types"),
    ] {
        let answer = call(api, Method::PATCH, &path, &target.platform_key, &fields).await;
        let body = refusal(answer, 400, "invalid_value").await;
        assert_eq!(crate::wire::places(&body), [place], "{body}");
    }
    let now = change(api, &target, json!({})).await;
    for (name, value) in [
        ("ip_allowlist", json!([])),
        ("allowed_mime_types", Value::Null),
        ("input_schema", Value::Null),
        ("public_docs", json!(false)),
    ] {
        assert_eq!(now[name], value, "{name}");
    }
    // A schema is replaced whole, with each null that stands in it.
    let first = json!({"properties": {"a": {"type": "string"}}});
    change(api, &target, json!({"input_schema": first})).await;
    let second = json!({"properties": {"b": {"const": null}}});
    assert_eq!(change(api, &target, json!({"input_schema": second})).await["input_schema"], second);
    server.stop().await;
}
