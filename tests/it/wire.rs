//! What tests of the wire share: refusals in their one shape, raw requests,
//! executions that last as long as the test wants.

use millrace::engine::Engine;
use millrace::engine::audit::Author;
use millrace::engine::manage::platform_keys::PlatformKeyDraft;
use millrace::ids::Key;
use millrace_entities::enums::{DeliveryState, Tier};
use millrace_entities::webhook_delivery;
use reqwest::{Method, Response};
use sea_orm::EntityTrait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::support::{Api, Database, PATIENCE, Server, Target, json_of};

const BOUNDARY: &str = "edge";

/// Media type of forms made of [`part`]s.
pub const FORM: &str = "multipart/form-data; boundary=edge";

/// Media type of JSON.
pub const JSON: &str = "application/json";

/// A workflow that passes its input on.
pub fn echo() -> Value {
    json!([{"uses": "jq", "with": {"filter": "."}}])
}

/// A step that ends only when it is killed.
pub fn endless() -> Value {
    json!([{"uses": "jq", "with": {"filter": "def f: f; f", "timeout_seconds": 60}}])
}

/// Path of a management resource of the organisation `acme`.
pub fn managed(rest: &str) -> String {
    format!("/unstract/acme/api/v2/{rest}")
}

/// Fails unless `body` has exactly the one shape of refusals, of this kind.
pub fn assert_refusal(body: &Value, code: &str) {
    let mut names: Vec<_> = body.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["errors", "request_id", "type"], "{body}");
    let kinds = ["validation_error", "client_error", "server_error"];
    assert!(kinds.contains(&body["type"].as_str().unwrap()), "{body}");
    let errors = body["errors"].as_array().unwrap();
    assert!(!errors.is_empty(), "{body}");
    for error in errors {
        let mut names: Vec<_> = error.as_object().unwrap().keys().collect();
        names.sort();
        assert_eq!(names, ["attr", "code", "detail"], "{body}");
        assert_eq!(error["code"], code, "{body}");
        assert!(!error["detail"].as_str().unwrap().is_empty(), "{body}");
        assert!(error["attr"].is_null() || error["attr"].is_string(), "{body}");
    }
}

/// The body of a refusal, which must have this status and code.
pub async fn refusal(answer: Response, status: u16, code: &str) -> Value {
    let header = |name: &str| {
        answer
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let (id, media) = (header("x-request-id"), header("content-type"));
    let body = json_of(answer, status).await;
    assert_refusal(&body, code);
    assert_eq!(media, "application/json");
    assert_eq!(body["request_id"], id);
    assert!(!id.is_empty());
    body
}

/// The places that a refusal names.
pub fn places(body: &Value) -> Vec<&str> {
    let errors = body["errors"].as_array().unwrap();
    errors.iter().filter_map(|error| error["attr"].as_str()).collect()
}

/// A refusal but for its request id: two that must be alike are equal here.
pub fn anonymous(mut body: Value) -> Value {
    body.as_object_mut().unwrap().remove("request_id");
    body
}

/// A connection to the server.
pub async fn connect(api: &Api) -> TcpStream {
    TcpStream::connect(api.url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// Sends bytes on a connection of their own; returns all that comes back until
/// the server closes it, and fails if it never does.
pub async fn raw(api: &Api, bytes: &[u8]) -> String {
    let mut stream = connect(api).await;
    stream.write_all(bytes).await.unwrap();
    until_closed(&mut stream).await
}

/// All that comes on a connection until the server closes it.
pub async fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    let reading = async {
        // A reset after the answer is an end as well.
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            answer.extend_from_slice(&piece[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("the server closes the connection");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status and JSON body of a raw answer.
pub fn parsed(answer: &str) -> (u16, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Another platform key of the organisation that `of` belongs to.
pub async fn platform_key(engine: &Engine, of: &str, tier: Tier) -> String {
    let owner = engine.manager(&Key::parse(of).unwrap()).unwrap().organisation_id;
    let draft =
        PlatformKeyDraft { name: "another".into(), tier, expires_at: None, is_active: true };
    let made = engine.create_platform_key(&Author::server(), owner, draft).await.unwrap();
    made.1.reveal().to_owned()
}

/// Asks for an execution to be stopped.
pub async fn cancel(api: &Api, target: &Target, id: &str) -> Response {
    let path = format!("/deployment/{}/cancel/{id}/", target.public_id);
    api.post(&path, &target.key).send().await.unwrap()
}

/// Waits until an execution runs.
pub async fn running(api: &Api, target: &Target, id: &str) {
    let path = format!("/deployment/{}/status/{id}/", target.public_id);
    let status = async |query: &str| {
        let answer = api.get(&format!("{path}{query}"), &target.key).send().await.unwrap();
        json_of(answer, 200).await["status"].clone()
    };
    let polling = async {
        // A wait is for a change, so look first whether there is one to wait for.
        while status("").await == "PENDING" {
            status("?wait=1").await;
        }
    };
    tokio::time::timeout(PATIENCE, polling).await.expect("it runs in time");
}

/// Names of the fields of an object.
pub fn names(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// A header of an answer; empty where it is missing.
pub fn header<'a>(answer: &'a Response, name: &str) -> &'a str {
    answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

/// A document of a JSON submission.
pub fn document(name: &str, text: &str) -> Value {
    use base64::Engine as _;
    let content = base64::engine::general_purpose::STANDARD.encode(text);
    json!({"name": name, "content_base64": content})
}

/// One part of a form; `head` is what stands in `Content-Disposition` after
/// `form-data; `, and whatever header lines follow it.
pub fn part(head: &str, body: &[u8]) -> Vec<u8> {
    let mut part =
        format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").into_bytes();
    part.extend_from_slice(body);
    part.extend_from_slice(b"\r\n");
    part
}

/// A part that is no file.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    part(&format!("name=\"{name}\""), value.as_bytes())
}

/// A part that is a text file.
pub fn file(name: &str, content: &str) -> Vec<u8> {
    let head = format!("name=\"files\"; filename=\"{name}\"\r\nContent-Type: text/plain");
    part(&head, content.as_bytes())
}

/// A whole form.
pub fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut form = parts.concat();
    form.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    form
}

/// Waits until no upload is left: they are removed by tasks of their own after
/// the answer.
pub async fn no_upload_is_left(database: &Database) {
    let folder = database.path("documents/uploads");
    let emptied = async {
        while std::fs::read_dir(&folder).is_ok_and(|mut left| left.next().is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, emptied).await.expect("no upload is left");
}

/// Calls with a JSON body, or with none if it is null.
pub async fn call(api: &Api, method: Method, path: &str, key: &str, body: &Value) -> Response {
    let request = api.client.request(method, format!("{}{path}", api.url)).bearer_auth(key);
    if body.is_null() { request } else { request.json(body) }.send().await.unwrap()
}

/// Enters a webhook's delivery that has ended, whose receiver is no more;
/// returns its id.
pub async fn delivery(server: &Server, key: &str, deployment: &str, execution: &str) -> String {
    let store = server.engine.store();
    let owner = server.engine.manager(&Key::parse(key).unwrap()).unwrap();
    let row = webhook_delivery::Model {
        id: Uuid::now_v7(),
        organisation_id: owner.organisation_id,
        deployment_id: deployment.parse().unwrap(),
        execution_id: execution.parse().unwrap(),
        connection: "none".into(),
        event: "execution.completed".into(),
        state: DeliveryState::Failed,
        attempts: 1,
        tries: 1,
        next_attempt_at: 1,
        created_at: millrace::clock::now(),
        ended_at: Some(millrace::clock::now()),
    };
    let id = row.id.to_string();
    let entered = store.write(move |tx| {
        Box::pin(async move {
            let row = webhook_delivery::ActiveModel::from(row);
            webhook_delivery::Entity::insert(row).exec_without_returning(tx).await?;
            Ok(())
        })
    });
    entered.await.unwrap();
    id
}
