//! The step `http`: what it sends, what it gives, and how it fails.

use reqwest::Method;
use serde_json::{Value, json};

use crate::site::{Asked, Reply, Site, reply, silence};
use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{call, managed};

const LOCAL: &str = "[outbound]\nallowed_networks = [\"127.0.0.0/8\"]\n";

const TOKEN: &str = "canary-token";

/// An organisation with the stored connection `service`, which leads to the
/// site's `/api`.
async fn organisation(api: &Api, site: &Site) -> String {
    let key = api.organisation(ORG).await;
    let write = json!({"name": "service", "kind": "http", "base_url": site.url("/api"),
        "headers": {"X-Token": TOKEN}});
    json_of(call(api, Method::POST, &managed("connection/"), &key, &write).await, 201).await;
    key
}

/// A deployment of one call, tried once.
async fn deploy(api: &Api, key: &str, name: &str, with: Value) -> Target {
    let steps = json!([{"uses": "http", "with": with}]);
    api.deploy_in(ORG, key, name, steps, json!({"retry": {"attempts": 1}})).await
}

/// What a call gives, and the status of its execution.
async fn outcome(api: &Api, target: &Target, body: Value) -> (String, Value) {
    let id = api.accepted(target, &body).await;
    let ended = api.ended(target, &id).await;
    if ended["status"] != "COMPLETED" {
        return (id, ended);
    }
    (id.clone(), api.result(target, &id).await[0]["result"]["output"].clone())
}

fn submission() -> Value {
    json!({"input_data": {"id": "a/b?c", "total": 12.5, "line": "one\r\nX-Evil: 1"},
        "documents": [{"name": "inv \"1\".txt", "content_base64": "aGVsbG8=", "mime_type": "text/plain"}]})
}

/// A body in parts, without the boundary, which differs each time.
fn parts(asked: &Asked) -> String {
    let media = &asked.headers["content-type"];
    let boundary = media.strip_prefix("multipart/form-data; boundary=").unwrap();
    String::from_utf8(asked.body.clone()).unwrap().replace(boundary, "-")
}

on_each_database! {
    async fn a_call_sends_what_the_workflow_says_and_gives_the_answer(database) {
        let site = Site::start("127.0.0.1:0", |asked: &Asked| match asked.path.as_str() {
            "/api/text" => reply("200 OK", "content-type: text/html\r\nset-cookie: canary\r\n", "<p>é"),
            "/api/bytes" => reply("201 Created", "location: /new\r\n", [0, 255]),
            "/api/none" => reply("204 No Content", "", ""),
            "/api/missing" => reply("404 Not Found", "", "{\"no\": 1}"),
            _ => reply("200 OK", "content-type: application/json\r\netag: \"1\"\r\n", "{\"ok\": true}"),
        }).await;
        let server = Server::start_with(&database, LOCAL).await;
        let api = &server.api;
        let key = organisation(api, &site).await;
        let document = json!({"send": "document", "path": "x", "method": "PUT"});
        for (name, with, sent, given) in [
            ("json", json!({"path": "v1/{{ input_data.id }}", "query": {"q": "{{ input_data.id }}", "z": "1"},
                "headers": {"X-Total": "{{ input_data.total }}", "x-token": "overridden"},
                "body": {"total": "{{ input_data.total }}", "text": "{{ input_data.total }} EUR"}}),
             ("POST", "/api/v1/a/b%3Fc?q=a%2Fb%3Fc&z=1", "application/json", "{\"total\":12.5,\"text\":\"12.5 EUR\"}"),
             json!({"status": 200, "headers": {"content-type": "application/json", "etag": "\"1\""}, "body": {"ok": true}})),
            ("from", json!({"path": "x", "body_from": "/input_data/total", "method": "PATCH"}),
             ("PATCH", "/api/x", "application/json", "12.5"), Value::Null),
            ("form", json!({"path": "x", "send": "form", "body": {"a": "{{ input_data.id }}", "b": [1, true]}}),
             ("POST", "/api/x", "application/x-www-form-urlencoded", "a=a%2Fb%3Fc&b=1&b=true"), Value::Null),
            ("text", json!({"path": "text", "send": "text", "body": "{{ input_data.total }} EUR", "response": "text",
                "headers": {"content-type": "text/csv"}}),
             ("POST", "/api/text", "text/csv", "12.5 EUR"),
             json!({"status": 200, "headers": {"content-type": "text/html"}, "body": "<p>é"})),
            ("document", document, ("PUT", "/api/x", "text/plain", "hello"), Value::Null),
            ("bytes", json!({"path": "bytes", "method": "GET", "response": "bytes_base64"}),
             ("GET", "/api/bytes", "", ""), json!({"status": 201, "headers": {"location": "/new"}, "body": "AP8="})),
            ("none", json!({"path": "none", "method": "DELETE"}),
             ("DELETE", "/api/none", "", ""), json!({"status": 204, "headers": {}, "body": null})),
            ("expected", json!({"path": "missing", "method": "GET", "expect": [404]}),
             ("GET", "/api/missing", "", ""), json!({"status": 404, "headers": {}, "body": {"no": 1}})),
        ] {
            let mut with = with;
            with["connection"] = "service".into();
            let target = deploy(api, &key, name, with).await;
            let (id, output) = outcome(api, &target, submission()).await;
            if !given.is_null() {
                assert_eq!(output, given, "{name}");
            }
            let asked = site.asked().pop().unwrap();
            let (method, path, media, body) = sent;
            assert_eq!((asked.method.as_str(), asked.path.as_str()), (method, path), "{name}: {output}");
            assert_eq!(asked.headers["x-token"], TOKEN, "{name}");
            let repeatable = asked.headers.get("idempotency-key").map(String::as_str);
            let expected = (method != "GET").then(|| format!("{id}/0/http"));
            assert!(repeatable.is_none() == expected.is_none() && repeatable.is_none_or(|key| key.starts_with(&id)), "{name}: {repeatable:?}");
            assert_eq!(asked.headers.get("content-type").map_or("", String::as_str), media, "{name}");
            assert_eq!(String::from_utf8(asked.body).unwrap(), body, "{name}");
            assert!(!asked.headers.contains_key("transfer-encoding"), "{name}");
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn the_document_goes_as_a_part_of_a_form(database) {
        let site = Site::start("127.0.0.1:0", |_: &Asked| reply("200 OK", "", "")).await;
        let server = Server::start_with(&database, LOCAL).await;
        let api = &server.api;
        let key = organisation(api, &site).await;
        let with = json!({"connection": "service", "send": "document", "document_field": "file",
            "body": {"total": "{{ input_data.total }}", "kind": ["a", "b"]}});
        let target = deploy(api, &key, "demo", with).await;
        let (_, output) = outcome(api, &target, submission()).await;
        assert_eq!(output["status"], 200, "{output}");
        assert_eq!(parts(&site.asked()[0]), "---\r\nContent-Disposition: form-data; name=\"total\"\r\n\r\n12.5\r\n\
            ---\r\nContent-Disposition: form-data; name=\"kind\"\r\n\r\na\r\n\
            ---\r\nContent-Disposition: form-data; name=\"kind\"\r\n\r\nb\r\n\
            ---\r\nContent-Disposition: form-data; name=\"file\"; filename=\"inv \\\"1\\\".txt\"\r\n\
            Content-Type: text/plain\r\n\r\nhello\r\n-----\r\n");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_call_that_fails_says_why_and_nothing_of_the_outside(database) {
        let site = Site::start("127.0.0.1:0", |asked: &Asked| match asked.path.as_str() {
            "/api/busy" => reply("429 Too Many Requests", "retry-after: 7\r\n", "canary"),
            "/api/down" => reply("503 Service Unavailable", "", "canary"),
            "/api/refused" => reply("403 Forbidden", "", "canary"),
            "/api/moved" => reply("302 Found", "location: /api/ok\r\n", ""),
            "/api/large" => reply("200 OK", "", "x".repeat(2000)),
            "/api/nonsense" => reply("200 OK", "", "canary"),
            "/api/short" => Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut".to_vec()),
            "/api/silent" => silence(),
            _ => reply("200 OK", "", "{}"),
        }).await;
        let server = Server::start_with(&database, LOCAL).await;
        let api = &server.api;
        let key = organisation(api, &site).await;
        for (name, with, code) in [
            ("busy", json!({"path": "busy"}), "http_unavailable"),
            ("down", json!({"path": "down"}), "http_unavailable"),
            ("refused", json!({"path": "refused"}), "http_refused"),
            ("moved", json!({"path": "moved", "method": "GET"}), "http_refused"),
            ("large", json!({"path": "large", "max_response_bytes": 1000}), "http_response_too_large"),
            ("nonsense", json!({"path": "nonsense"}), "http_response_invalid"),
            ("short", json!({"path": "short", "response": "text"}), "http_unavailable"),
            ("silent", json!({"path": "silent", "timeout_seconds": 1}), "http_unavailable"),
            ("header", json!({"path": "x", "headers": {"x-a": "{{ input_data.line }}"}}), "http_request_invalid"),
            ("climbs", json!({"path": "a/../../x"}), "http_request_invalid"),
            ("missing", json!({"path": "{{ input_data.nothing }}"}), "template_failed"),
            ("pointer", json!({"path": "x", "body_from": "/steps/none"}), "bad_step_input"),
        ] {
            let mut with = with;
            with["connection"] = "service".into();
            let target = deploy(api, &key, name, with).await;
            let (_, ended) = outcome(api, &target, submission()).await;
            let told = ended.to_string();
            assert!(ended["status"] == "ERROR" && told.contains(code), "{name}: {told}");
            assert!(!told.contains("canary") && !told.contains("127.0.0.1"), "{name}: {told}");
        }
        for (name, with, code) in [
            ("inside", json!({"url": "http://10.0.0.1/x"}), "blocked_destination"),
            ("password", json!({"url": "http://u:p@127.0.0.1/x"}), "http_request_invalid"),
            ("nobody", json!({"connection": "nobody"}), "connection_unknown"),
        ] {
            let target = deploy(api, &key, name, with).await;
            let (_, ended) = outcome(api, &target, submission()).await;
            assert!(ended.to_string().contains(code), "{name}: {ended}");
        }
        assert!(!site.asked().iter().any(|asked| ["/api/ok", "/x"].contains(&asked.path.as_str())));
        assert!(site.asked().iter().all(|asked| !asked.headers.contains_key("x-evil")));
        server.stop().await;
    }
}

on_each_database! {
    async fn a_call_that_failed_is_repeated_under_one_key(database) {
        let count = std::sync::atomic::AtomicUsize::new(0);
        let site = Site::start("127.0.0.1:0", move |_: &Asked| {
            match count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
                0 => reply("503 Service Unavailable", "retry-after: 0\r\n", ""),
                _ => reply("200 OK", "", "{}"),
            }
        }).await;
        let server = Server::start_with(&database, LOCAL).await;
        let api = &server.api;
        let key = organisation(api, &site).await;
        let steps = json!([{"uses": "http", "with": {"connection": "service"}}]);
        let retry = json!({"retry": {"attempts": 2, "delay_seconds": 0}});
        let target = api.deploy_in(ORG, &key, "demo", steps, retry).await;
        let (_, output) = outcome(api, &target, submission()).await;
        assert_eq!(output["status"], 200, "{output}");
        let keys: Vec<_> = site.asked().iter().map(|asked| asked.headers["idempotency-key"].clone()).collect();
        assert!(keys.len() == 2 && keys[0] == keys[1], "{keys:?}");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_call_in_flight_ends_with_its_execution(database) {
        let site = Site::start("127.0.0.1:0", |_: &Asked| silence()).await;
        let server = Server::start_with(&database, LOCAL).await;
        let api = &server.api;
        let key = organisation(api, &site).await;
        let target = deploy(api, &key, "demo", json!({"connection": "service", "timeout_seconds": 300})).await;
        let id = api.accepted(&target, &submission()).await;
        site.hears(1).await;
        let path = format!("/deployment/{}/cancel/{id}/", target.public_id);
        assert_eq!(api.post(&path, &target.key).send().await.unwrap().status(), 202);
        site.is_left(1).await;
        assert_eq!(api.ended(&target, &id).await["status"], "STOPPED");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_cannot_be_meant_are_refused_with_their_place() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let key = server.api.organisation(ORG).await;
    for (with, place) in [
        (json!({}), ""),
        (json!({"connection": "a", "url": "b"}), ""),
        (json!({"url": "b", "body": 1, "body_from": ""}), ".body_from"),
        (json!({"url": "b", "body_from": "x"}), ".body_from"),
        (json!({"url": "b", "document_field": "x"}), ".document_field"),
        (json!({"url": "b", "send": "document", "body": 1}), ".body"),
        (json!({"url": "b", "expect": [99]}), ".expect"),
        (json!({"url": "b", "timeout_seconds": 0}), ".timeout_seconds"),
        (json!({"url": "b", "max_response_bytes": 99_999_999}), ".max_response_bytes"),
        (json!({"url": "b", "headers": {"Host": "x"}}), ".headers.Host"),
        (json!({"url": "b", "headers": {"a b": "x"}}), ".headers.a b"),
        (json!({"url": "{{", "method": "GET"}), ".url"),
        (json!({"url": "b", "method": "TRACE"}), ".method"),
        (json!({"url": "b", "body": {"a": ["{{ }}"]}}), ".body.a[0]"),
    ] {
        let workflow =
            json!({"name": "w", "type": "TASK", "steps": [{"uses": "http", "with": with}]});
        let answer = call(&server.api, Method::POST, &managed("workflow/"), &key, &workflow).await;
        let refused = json_of(answer, 400).await;
        assert_eq!(refused["errors"][0]["attr"], format!("steps[0].with{place}"), "{refused}");
    }
    server.stop().await;
}
