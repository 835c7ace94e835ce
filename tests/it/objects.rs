//! `write_object` into a store that speaks S3.

use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::object_server::{BUCKET, ObjectServer, options};
use crate::support::{Api, Database, ORG, PATIENCE, Process, Server, Target, json_of};
use crate::wire::{call, managed};

/// Declares the connection `store`.
fn declared(options: &str) -> String {
    format!(
        "[engine]\ncancel_grace_seconds = 3600\n[[connections]]\norg_id = \"{ORG}\"\n\
         name = \"store\"\nkind = \"object_store\"\nservice = \"s3\"\noptions = {options}"
    )
}

fn writing() -> Value {
    let with = json!({"connection": "store", "path": "in/{{ input.name }}", "format": "json"});
    json!([{"uses": "write_object", "with": with, "retry": {"attempts": 1}}])
}

/// The code of the error with which a run ends; null if it completes.
async fn run(api: &Api, target: &Target, input: &Value) -> Value {
    let id = api.accepted(target, &json!({"input_data": input})).await;
    api.ended(target, &id).await["error"]["code"].clone()
}

/// The same of a server whose connection has these options.
async fn run_with(options: &str) -> Value {
    let database = Database::sqlite();
    let server = Server::start_with(&database, &declared(options)).await;
    let target = server.api.deploy(writing()).await;
    let code = run(&server.api, &target, &json!({"name": "x"})).await;
    server.stop().await;
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_small_and_large_are_written_and_written_over() {
    let store = ObjectServer::start().await;
    let database = Database::sqlite();
    let options = store.options(&[("root", "/base")]);
    let server = Server::start_with(&database, &declared(&options)).await;
    let target = server.api.deploy(writing()).await;
    // Two parts of 8 MiB and a rest, then less than one.
    for length in [10, 15 << 20, 3] {
        let input = json!({"name": "é 1.json", "text": "x".repeat(length)});
        assert_eq!(run(&server.api, &target, &input).await, Value::Null);
        let written = std::fs::read(store.path("base/in/é 1.json")).unwrap();
        assert!(serde_json::from_slice::<Value>(&written).unwrap() == input, "{length}");
    }
    assert_eq!(store.left_over(), Vec::<String>::new());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_refuses_is_told_from_one_that_is_away() {
    let store = ObjectServer::start().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://{}", gone.local_addr().unwrap());
    drop(gone);
    for (options, expected) in [
        (store.options(&[]), Value::Null),
        (store.options(&[("secret_access_key", "wrong")]), json!("destination_refused")),
        (store.options(&[("access_key_id", "wrong")]), json!("destination_refused")),
        (store.options(&[("skip_signature", "true")]), json!("destination_refused")),
        (store.options(&[("bucket", "other")]), json!("destination_refused")),
        (options(&nobody, &[]), json!("destination_unavailable")),
    ] {
        assert_eq!(run_with(&options).await, expected, "{options}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_writing_into_a_store_that_never_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let database = Database::sqlite();
    let server = Server::start_with(&database, &declared(&options(&url, &[]))).await;
    let api = &server.api;
    let target = api.deploy(writing()).await;
    let id = api.accepted(&target, &json!({"input_data": {"name": "x"}})).await;
    let connected = tokio::time::timeout(PATIENCE, silent.accept()).await;
    let held = connected.expect("it connects").unwrap();
    let cancel = format!("/deployment/{}/cancel/{id}/", target.public_id);
    assert_eq!(api.post(&cancel, &target.key).send().await.unwrap().status(), 202);
    assert_eq!(api.ended(&target, &id).await["status"], "STOPPED");
    drop(held);
    server.stop().await;
}

/// Stores the connection `store` by the API and runs with it.
async fn run_stored(api: &Api, key: &str, options: &Value) -> (Value, Value) {
    let write =
        json!({"name": "store", "kind": "object_store", "service": "s3", "options": options});
    let made = call(api, reqwest::Method::POST, &managed("connection/"), key, &write).await;
    let made = json_of(made, 201).await;
    let path = managed(&format!("connection/{}/", made["id"].as_str().unwrap()));
    let test = call(api, reqwest::Method::POST, &format!("{path}test/"), key, &Value::Null).await;
    let tried = json_of(test, 200).await;
    let target =
        api.deploy_in(ORG, key, &format!("w{}", fastrand::u32(..)), writing(), json!({})).await;
    let code = run(api, &target, &json!({"name": "x"})).await;
    let deployment = managed(&format!("api-deployment/{}/", target.id));
    let read =
        json_of(call(api, reqwest::Method::GET, &deployment, key, &Value::Null).await, 200).await;
    call(api, reqwest::Method::DELETE, &deployment, key, &Value::Null).await;
    let workflow = managed(&format!("workflow/{}/", read["workflow"].as_str().unwrap()));
    call(api, reqwest::Method::DELETE, &workflow, key, &Value::Null).await;
    let gone = call(api, reqwest::Method::DELETE, &path, key, &Value::Null).await;
    assert_eq!(gone.status(), 204);
    (code, tried)
}

fn stored(url: &str, secret: &str) -> Value {
    json!({"bucket": BUCKET, "region": "r", "endpoint": url, "access_key_id": "test-access-key", "secret_access_key": secret})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stored_connection_reaches_no_store_inside_unless_its_network_is_open() {
    let store = ObjectServer::start().await;
    let port = store.url.rsplit(':').next().unwrap();
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let key = server.api.organisation(ORG).await;
    // By address, in another way of writing it, and by name.
    for host in ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost"] {
        let options = stored(&format!("http://{host}:{port}"), "test-secret-key-0d1f");
        let (code, tried) = run_stored(&server.api, &key, &options).await;
        assert_eq!(code, "blocked_destination", "{host}");
        assert!(tried.to_string().contains("may lead to"), "{tried}");
    }
    server.stop().await;
    assert!(!store.path("in/x").exists());

    let changes = "[outbound]\nallowed_networks = [\"127.0.0.0/8\"]";
    let server = Server::start_with(&database, changes).await;
    let options = stored(&store.url, "test-secret-key-0d1f");
    assert_eq!(run_stored(&server.api, &key, &options).await.0, Value::Null);
    assert!(store.path("in/x").exists());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_identity_of_the_server_itself_opens_nothing() {
    let store = ObjectServer::start().await;
    let database = Database::sqlite();
    let networks = ("MILLRACE_OUTBOUND__ALLOWED_NETWORKS", "[\"127.0.0.0/8\"]");
    let identity = [
        ("AWS_ACCESS_KEY_ID", "test-access-key"),
        ("AWS_SECRET_ACCESS_KEY", "test-secret-key-0d1f"),
        ("AWS_ENDPOINT_URL", store.url.as_str()),
        networks,
    ];
    let process = Process::start(&database, &identity).await;
    let key = process.api.organisation(ORG).await;
    let wrong = stored(&store.url, "wrong");
    assert_eq!(run_stored(&process.api, &key, &wrong).await.0, "destination_refused");
    let mut nobody = wrong.clone();
    nobody["skip_signature"] = json!("true");
    assert_eq!(run_stored(&process.api, &key, &nobody).await.0, "destination_refused");
    assert!(process.terminate());
}
