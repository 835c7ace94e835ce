//! What is too large is refused before it is kept.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::{Api, Database, ORG, PATIENCE, Server, Target};
use crate::wire::{
    FORM, JSON, connect, echo, field, file, form, no_upload_is_left, parsed, until_closed,
};

/// Sends the head of a submission whose body is declared that long.
async fn declare(api: &Api, target: &Target, media: &str, length: &str) -> TcpStream {
    let mut stream = connect(api).await;
    let head = format!(
        "POST /deployment/{}/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: close\
         \r\ncontent-type: {media}\r\n{length}\r\n\r\n",
        target.public_id, target.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_cannot_be_within_its_limits_is_refused_by_its_length_or_when_it_passes_them() {
    let database = Database::sqlite();
    let changes = "[server]\nmax_field_bytes = 1000\ndisconnect_seconds = 1";
    let server = Server::start_with(&database, changes).await;
    let api = &server.api;
    let key = api.organisation(ORG).await;
    let settings = json!({"max_files": 2, "max_file_bytes": 100_000});
    let target = api.deploy_in(ORG, &key, "demo", echo(), settings).await;
    // Nothing of it is sent, and yet it is answered.
    let mut declared = declare(api, &target, FORM, "content-length: 1000000").await;
    let answer = until_closed(&mut declared).await;
    assert_eq!(parsed(&answer).0, 413, "{answer}");
    assert!(answer.contains("ratelimit-remaining"), "{answer}");
    // Two files of the largest size, and all that goes with them, are within.
    let largest = "x".repeat(100_000);
    let body = form(&[
        file("a", &largest),
        file("b", &largest),
        field("input_data", &format!("\"{}\"", "t".repeat(998))),
    ]);
    let length = format!("content-length: {}", body.len());
    let mut stream = declare(api, &target, FORM, &length).await;
    stream.write_all(&body).await.unwrap();
    assert_eq!(parsed(&until_closed(&mut stream).await).0, 202);
    // What stands before the first part is of no file and no field.
    let mut stream = declare(api, &target, FORM, "transfer-encoding: chunked").await;
    let line = format!("{}\r\n", "x".repeat(1022));
    let chunk = format!("400\r\n{line}\r\n");
    let sending = async {
        for _ in 0..2000 {
            if stream.write_all(chunk.as_bytes()).await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, sending).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(parsed(&until_closed(&mut stream).await).0, 413);
    no_upload_is_left(&database).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_in_memory_share_a_budget_that_comes_back() {
    let database = Database::sqlite();
    let changes = "[server]\nmax_json_bytes = 100000\nmax_field_bytes = 90000\n\
                   max_body_memory_bytes = 100000\ndisconnect_seconds = 1";
    let server = Server::start_with(&database, changes).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let text = "x".repeat(80_000);
    let in_json = json!({"input_data": text}).to_string().into_bytes();
    let in_form = form(&[field("input_data", &format!("\"{text}\""))]);
    let whole = async |media: &str, body: &[u8]| {
        let path = format!("/deployment/{}/", target.public_id);
        let request = api.post(&path, &target.key).header("content-type", media);
        request.body(body.to_vec()).send().await.unwrap().status().as_u16()
    };
    let until = async |media: &str, body: &[u8], status: u16| {
        let asking = async {
            while whole(media, body).await != status {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asking).await.expect("the budget is as it should be");
    };
    for (media, body) in [(JSON, &in_json), (FORM, &in_form)] {
        assert_eq!(whole(media, body).await, 202);
        let length = format!("content-length: {}", body.len());
        // To announce a body takes nothing.
        let mut held = declare(api, &target, media, &length).await;
        assert_eq!(whole(media, body).await, 202);
        held.write_all(&body[..body.len() - 10]).await.unwrap();
        until(JSON, &in_json, 503).await;
        until(FORM, &in_form, 503).await;
        drop(held);
        until(JSON, &in_json, 202).await;
    }
    server.stop().await;
}
