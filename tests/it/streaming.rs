//! Documents go from the socket to the store without being held in memory.

use bytes::Bytes;
use futures_util::stream;
use reqwest::Body;
use reqwest::multipart::{Form, Part};
use serde_json::json;

use crate::support::{Database, ORG, Process, json_of};

const MIB: u64 = 1 << 20;
const DOCUMENT: u64 = 256 * MIB;

/// Largest memory the process has had so far, in bytes.
fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_of_256_mib_is_stored_in_a_fraction_of_that_memory() {
    let database = Database::sqlite();
    let server = Process::start(&database, &[]).await;
    let Some(before) = peak_memory(server.id()) else {
        println!("skipped: a_document_of_256_mib needs /proc");
        return;
    };
    let key = server.api.organisation(ORG).await;
    let steps = json!([{"uses": "template", "with": {"template": "{{ document.size }}"}}]);
    let settings = json!({"max_file_bytes": DOCUMENT});
    let target = server.api.deploy_in(ORG, &key, "large", steps, settings).await;
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let pieces = (0..DOCUMENT / MIB).map(move |_| Ok::<_, std::io::Error>(piece.clone()));
    let part = Part::stream(Body::wrap_stream(stream::iter(pieces))).file_name("large.txt");
    let form = Form::new().part("files", part).text("timeout", "60");
    let path = format!("/deployment/{}/", target.public_id);
    let answer = server.api.post(&path, &target.key).multipart(form).send().await.unwrap();
    let answer = json_of(answer, 200).await;
    assert_eq!(answer["result"][0]["result"]["output"], DOCUMENT.to_string());
    let grown = peak_memory(server.id()).unwrap() - before;
    assert!(grown < DOCUMENT / 4, "{} MiB more", grown / MIB);
}
