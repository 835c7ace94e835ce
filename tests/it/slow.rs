//! Clients that are slow, stop half-way or go away.

use std::time::Duration;

use reqwest::multipart::{Form, Part};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::support::{Database, ORG, PATIENCE, Server, Target};
use crate::wire::{
    FORM, JSON, cancel, connect, echo, endless, field, file, no_upload_is_left, parsed, raw,
    refusal, until_closed,
};

/// The head of a submission by hand.
fn head(target: &Target, media: &str, length: usize) -> String {
    format!(
        "POST /deployment/{}/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
         content-type: {media}\r\ncontent-length: {length}\r\n\r\n",
        target.public_id, target.key
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_in_the_middle_leaves_no_upload_and_no_place_taken() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let accepted = &server.engine.context().accepted;
    let folder = database.path("documents/uploads");
    // By an end of the stream, and by a reset in which the request is dropped.
    for reset in [false, true] {
        let mut stream = connect(api).await;
        stream.write_all(head(&target, FORM, 1_000_000).as_bytes()).await.unwrap();
        stream.write_all(&file("a.txt", &"x".repeat(100_000))[..90_000]).await.unwrap();
        let arriving = async {
            while !std::fs::read_dir(&folder).is_ok_and(|mut found| found.next().is_some()) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, arriving).await.expect("the upload begins");
        assert_eq!(accepted.taken(), 1);
        if reset {
            stream.set_zero_linger().unwrap();
        }
        drop(stream);
        no_upload_is_left(&database).await;
        let given_back = async {
            while accepted.taken() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, given_back).await.expect("the place is given back");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_or_drips_is_refused_in_time() {
    let database = Database::sqlite();
    let changes = "[server]\nbody_idle_seconds = 1\nbody_seconds = 2\ndisconnect_seconds = 1";
    let server = Server::start_with(&database, changes).await;
    let api = &server.api;
    let key = api.organisation(ORG).await;
    let settings = json!({"request_timeout_seconds": 2});
    let target = api.deploy_in(ORG, &key, "demo", echo(), settings).await;
    let in_file = file("a.txt", &"x".repeat(100));
    let in_field = field("input_data", "12345");
    let mut stalling = Vec::new();
    for (media, begun) in [
        (JSON, &b"{\"input"[..]),
        (JSON, &b""[..]),
        (FORM, &b"--ed"[..]),
        (FORM, &in_file[..100]),
        (FORM, &in_field[..in_field.len() - 4]),
    ] {
        let mut stream = connect(api).await;
        stream.write_all(head(&target, media, 1000).as_bytes()).await.unwrap();
        stream.write_all(begun).await.unwrap();
        stalling.push(stream);
    }
    for mut stream in stalling {
        let (status, body) = parsed(&until_closed(&mut stream).await);
        assert_eq!(status, 408, "{body}");
        assert_eq!(body["errors"][0]["code"], "request_timeout");
    }
    // Never silent for long, never at its end: the whole body has its time too.
    let workflow = format!(
        "POST /unstract/acme/api/v2/workflow/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    );
    let submission = |media| head(&target, media, 100_000).into_bytes();
    let upload = [submission(FORM), in_file[..100].to_vec()].concat();
    for begun in [submission(JSON), upload, workflow.into_bytes()] {
        let (mut reading, mut writing) = connect(api).await.into_split();
        writing.write_all(&begun).await.unwrap();
        let dripping = tokio::spawn(async move {
            let mut drops = tokio::time::interval(Duration::from_millis(100));
            while writing.write_all(b" ").await.is_ok() {
                drops.tick().await;
            }
        });
        let mut answer = Vec::new();
        let read = tokio::io::AsyncReadExt::read_to_end(&mut reading, &mut answer);
        // A reset after the answer is an end as well.
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("the server closes it");
        assert_eq!(parsed(&String::from_utf8_lossy(&answer)).0, 408);
        dripping.abort();
    }
    no_upload_is_left(&database).await;
    assert_eq!(server.engine.context().accepted.taken(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_declared_too_large_is_refused_before_it_is_sent() {
    let database = Database::sqlite();
    let server = Server::start_with(&database, "[server]\ndisconnect_seconds = 1").await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let mut stream = connect(api).await;
    let head = head(&target, JSON, 16_777_217);
    stream.write_all(head.as_bytes()).await.unwrap();
    let (status, body) = parsed(&until_closed(&mut stream).await);
    assert_eq!(status, 413, "{body}");
    // An upload that is much too large is answered, not broken off.
    let form = Form::new().part("files", Part::bytes(vec![b'x'; 110_000_000]).file_name("large"));
    let path = format!("/deployment/{}/", target.public_id);
    let answer = api.post(&path, &target.key).multipart(form).send().await.unwrap();
    refusal(answer, 413, "payload_too_large").await;
    no_upload_is_left(&database).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_end_the_head_of_a_request_is_closed() {
    let database = Database::sqlite();
    let changes = "[server]\nhead_seconds = 1\nkeep_alive_seconds = 1\ndisconnect_seconds = 1";
    let server = Server::start_with(&database, changes).await;
    let answer = raw(&server.api, b"GET /health/live HTTP/1.1\r\nhost:").await;
    assert!(answer.starts_with("HTTP/1.1 408") || answer.is_empty(), "{answer}");
    assert_eq!(
        raw(&server.api, b"").await.lines().next().unwrap_or_default(),
        "HTTP/1.1 408 Request Timeout"
    );
    let kept = raw(&server.api, b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(kept.starts_with("HTTP/1.1 200"), "{kept}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_submission_that_finds_no_place_is_refused_before_its_body_is_read() {
    let database = Database::sqlite();
    let server = Server::start_with(&database, "[server]\ndisconnect_seconds = 1").await;
    let api = &server.api;
    let key = api.organisation(ORG).await;
    let settings = json!({"max_concurrency": 1, "max_queued": 0});
    let target = api.deploy_in(ORG, &key, "demo", endless(), settings).await;
    let id = api.accepted(&target, &json!({"input_data": 1})).await;
    let mut stream = connect(api).await;
    stream.write_all(head(&target, JSON, 1000).as_bytes()).await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert_eq!(parsed(&answer).0, 429, "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    cancel(api, &target, &id).await;
    api.ended(&target, &id).await;
    server.stop().await;
}
