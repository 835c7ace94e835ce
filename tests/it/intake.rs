//! What a submission may look like, and what is refused of it.

use std::time::Duration;

use reqwest::Response;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::support::{Api, Database, ORG, PATIENCE, Server, Target, json_of, on_each_database};
use crate::wire::{connect, echo, endless, parsed, places, raw, refusal, until_closed};

const BOUNDARY: &str = "edge";

/// One part of a form; `head` is what stands in `Content-Disposition` after
/// `form-data; `, and whatever header lines follow it.
fn part(head: &str, body: &[u8]) -> Vec<u8> {
    let mut part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n").into_bytes();
    part.extend_from_slice(body);
    part.extend_from_slice(b"\r\n");
    part
}

fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut form = parts.concat();
    form.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    form
}

fn field(name: &str, value: &str) -> Vec<u8> {
    part(&format!("name=\"{name}\""), value.as_bytes())
}

fn file(name: &str, content: &str) -> Vec<u8> {
    let head = format!("name=\"files\"; filename=\"{name}\"\r\nContent-Type: text/plain");
    part(&head, content.as_bytes())
}

async fn send(api: &Api, target: &Target, media: &str, body: impl Into<reqwest::Body>) -> Response {
    let path = format!("/deployment/{}/", target.public_id);
    api.post(&path, &target.key).header("content-type", media).body(body).send().await.unwrap()
}

async fn send_form(api: &Api, target: &Target, body: Vec<u8>) -> Response {
    send(api, target, &format!("multipart/form-data; boundary={BOUNDARY}"), body).await
}

/// The execution that an accepted submission made, at its end.
async fn outcome(api: &Api, target: &Target, answer: Response) -> Value {
    let body = json_of(answer, 202).await;
    let id = body["execution_id"].as_str().unwrap();
    assert_eq!(api.ended(target, id).await["status"], "COMPLETED");
    api.result(target, id).await
}

/// A workflow that shows all that a step sees.
fn mirror() -> Value {
    json!([{"uses": "jq", "input": "", "with": {"filter": "del(.execution_id)"}}])
}

on_each_database! {
    async fn a_form_says_the_same_as_json(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(mirror()).await;
        let nul = "{\"a\\u0000b\": \"\\u0000\", \"\u{1F980}\": [1.5, null, true]}";
        let body = form(&[
            part("name=\"input_data\"\r\nContent-Type: application/json; charset=utf-8", nul.as_bytes()),
            file("a.txt", "one"),
            field("include_metadata", "True"),
            file("a.txt", "one"),
            field("include_metrics", "False"),
            field("include_extracted_text", "true"),
            field("use_file_history", "false"),
            field("parameters", "{\"p\": 1}"),
            field("custom_data", "{\"c\": 2}"),
            field("tags", " x, y ,,"),
            field("timeout", "-1"),
            file("b.txt", ""),
        ]);
        let by_form = outcome(api, &target, send_form(api, &target, body).await).await;
        let one = "b25l";
        let input: Value = serde_json::from_str(nul).unwrap();
        let body = json!({"input_data": input, "parameters": {"p": 1}, "custom_data": {"c": 2},
            "tags": ["x", "y"], "include_metadata": true, "include_metrics": false,
            "include_extracted_text": true, "use_file_history": false, "timeout": -1, "documents": [
                {"name": "a.txt", "content_base64": one, "mime_type": "text/plain"},
                {"name": "a.txt", "content_base64": one, "mime_type": "text/plain"},
                {"name": "b.txt", "content_base64": "", "mime_type": "text/plain"}]});
        let by_json = outcome(api, &target, api.submit(&target, &body).await).await;
        for list in [&by_form, &by_json] {
            let files = list.as_array().unwrap();
            let names: Vec<_> = files.iter().map(|file| file["file"].clone()).collect();
            assert_eq!(names, ["a.txt", "a.txt", "b.txt"]);
            let ids: std::collections::HashSet<_> =
                files.iter().map(|file| file["file_execution_id"].as_str().unwrap()).collect();
            assert_eq!(ids.len(), 3, "two files of one name and content are two documents");
            let output = &files[1]["result"]["output"];
            assert_eq!(output["input_data"], input);
            assert_eq!(output["document"]["size"], 3);
            assert_eq!(files[0]["metadata"]["tags"], json!(["x", "y"]));
            assert_eq!(files[0]["metadata"]["organization_id"], ORG);
            assert!(files[0]["result"]["metadata"].is_object());
            assert!(files[0]["result"].get("metrics").is_none());
        }
        let outputs = |list: &Value| {
            let files = list.as_array().unwrap();
            files.iter().map(|file| file["result"]["output"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(outputs(&by_form), outputs(&by_json));
        server.stop().await;
    }
}

on_each_database! {
    async fn the_name_of_a_file_may_be_anything_and_is_never_a_path(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let body = form(&[
            part("name=\"files\"; filename=\"../../etc/passwd\"", b"a"),
            part("name=\"files\"; filename=\"C:\\\\docs\\\\b.txt\"", b"a"),
            part("name=\"files\"", b"a"),
            part("name=\"files\"; filename=\"\"", b"a"),
            part("name=\"files\"; filename*=UTF-8''%e2%82%ac.pdf", b"a"),
            part("name=\"files\"; filename=\"Rechnung \u{e4}.pdf\"", b"a"),
        ]);
        let list = outcome(api, &target, send_form(api, &target, body).await).await;
        let names: Vec<_> = list.as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
        assert_eq!(names[0], "passwd");
        assert_eq!(names[1], "b.txt");
        assert_eq!(names[2..4], ["document-3", "document-4"]);
        assert_eq!(names[4], "\u{20ac}.pdf");
        assert_eq!(names[5], "Rechnung \u{e4}.pdf");
        let mut latin = part("name=\"files\"; filename=\"X\"", b"a");
        let place = latin.iter().position(|byte| *byte == b'X').unwrap();
        latin[place] = 0xe4;
        let refused = send_form(api, &target, form(&[latin])).await;
        let detail = refusal(refused, 400, "invalid_form").await["errors"][0]["detail"].clone();
        assert!(detail.as_str().unwrap().contains("UTF-8"), "{detail}");
        let body = json!({"documents": [
            {"name": "a\u{0}b\n.txt", "content_base64": "YQ==", "mime_type": "x\u{0}/y"},
            {"name": "", "content_base64": "YQ=="}]});
        let list = outcome(api, &target, api.submit(&target, &body).await).await;
        assert_eq!(list[0]["file"], "ab.txt");
        assert_eq!(list[1]["file"], "document-2");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_wrong_is_refused_with_the_place_and_leaves_nothing_behind() {
    let database = Database::sqlite();
    let server = Server::start_with(&database, "[server]\nmax_field_bytes = 1000").await;
    let api = &server.api;
    let key = api.organisation(ORG).await;
    let settings = json!({"max_files": 2, "max_file_bytes": 5000});
    let target = api.deploy_in(ORG, &key, "demo", echo(), settings).await;
    let large = "x".repeat(5001);
    let good = file("a.txt", "a");
    let mut truncated = form(&[good.clone(), file("b.txt", "bbbb")]);
    truncated.truncate(truncated.len() - 20);
    for (body, status, code, place) in [
        (form(&[]), 400, "nothing_to_do", None),
        (Vec::new(), 400, "invalid_form", None),
        (b"no form".to_vec(), 400, "invalid_form", None),
        (truncated, 400, "invalid_form", None),
        (good.clone(), 400, "invalid_form", None),
        (b"--other\r\n\r\n--other--\r\n".to_vec(), 400, "invalid_form", None),
        (format!("--{BOUNDARY}\r\n\r\nx\r\n--{BOUNDARY}--\r\n").into_bytes(), 400, "invalid_form", None),
        (form(&[field("file", "x")]), 400, "invalid_value", Some("file")),
        (form(&[field("", "x")]), 400, "invalid_value", Some("")),
        (form(&[field("input_data", "{\"a\": ")]), 400, "invalid_value", Some("input_data")),
        (form(&[field("input_data", &"[".repeat(200))]), 400, "invalid_value", Some("input_data")),
        (form(&[part("name=\"input_data\"", b"\"\xff\"")]), 400, "invalid_value", Some("input_data")),
        (form(&[good.clone(), field("parameters", "[1]")]), 400, "invalid_value", Some("parameters")),
        (form(&[good.clone(), field("custom_data", "1")]), 400, "invalid_value", Some("custom_data")),
        (form(&[good.clone(), field("timeout", "301")]), 400, "invalid_value", Some("timeout")),
        (form(&[good.clone(), field("timeout", "-2")]), 400, "invalid_value", Some("timeout")),
        (form(&[good.clone(), field("timeout", "soon")]), 400, "invalid_value", Some("timeout")),
        (form(&[good.clone(), field("include_metadata", "yes")]), 400, "invalid_value", Some("include_metadata")),
        (form(&[good.clone(), field("tags", "a"), field("tags", "b")]), 400, "invalid_value", Some("tags")),
        (form(&[field("input_data", &format!("\"{}\"", "x".repeat(1000)))]), 413, "payload_too_large", Some("input_data")),
        (form(&[good.clone(), file("b", &large)]), 413, "payload_too_large", Some("files[1]")),
        (form(&[good.clone(), good.clone(), good.clone()]), 413, "payload_too_large", None),
        (part(&format!("name=\"files\"; filename=\"{}\"", "x".repeat(200_000)), b""), 400, "invalid_form", None),
    ] {
        let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
        let refused = send_form(api, &target, body).await;
        assert!(refused.headers().contains_key("ratelimit-remaining"), "{shown}");
        assert_eq!(refused.status(), status, "{shown}: {}", refused.text().await.unwrap());
        let refused = refusal(refused, status, code).await;
        assert_eq!(places(&refused), place.as_slice(), "{shown}");
    }
    for media in ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\""] {
        refusal(send(api, &target, media, form(&[good.clone()])).await, 400, "invalid_form").await;
    }
    no_upload_is_left(&database).await;
    assert_eq!(server.engine.context().accepted.taken(), 0, "every place is given back");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn json_that_is_wrong_is_refused_with_the_place() {
    let database = Database::sqlite();
    let server = Server::start_with(&database, "[server]\nmax_json_bytes = 20000").await;
    let api = &server.api;
    let key = api.organisation(ORG).await;
    let settings = json!({"max_files": 2, "max_file_bytes": 1000});
    let target = api.deploy_in(ORG, &key, "demo", echo(), settings).await;
    let document = |name: &str, bytes: usize| {
        json!({"name": name, "content_base64": "QUFB".repeat(bytes.div_ceil(3))})
    };
    for (body, status, code, place) in [
        (String::new(), 400, "invalid_json", None),
        ("{".into(), 400, "invalid_json", None),
        ("{\"input_data\": 1e999}".into(), 400, "invalid_json", None),
        ("{\"input_data\": \"\\ud800\"}".into(), 400, "invalid_json", None),
        ("\u{feff}{\"input_data\": 1}".into(), 400, "invalid_json", None),
        ("{\"input_data\": 1} x".into(), 400, "invalid_json", None),
        (format!("{{\"input_data\": {}{}}}", "[".repeat(128), "]".repeat(128)), 400, "invalid_json", None),
        (format!("{{\"input_data\": {}", "[".repeat(15_000)), 400, "invalid_json", None),
        ("[]".into(), 400, "invalid_value", None),
        ("[1]".into(), 400, "invalid_value", None),
        ("1".into(), 400, "invalid_value", None),
        ("null".into(), 400, "invalid_value", None),
        ("{}".into(), 400, "nothing_to_do", None),
        ("{\"input_data\": null, \"documents\": []}".into(), 400, "nothing_to_do", None),
        (json!({"input": 1}).to_string(), 400, "invalid_value", Some("input")),
        (json!({"input_data": 1, "timeout": 301}).to_string(), 400, "invalid_value", Some("timeout")),
        (json!({"input_data": 1, "timeout": -2}).to_string(), 400, "invalid_value", Some("timeout")),
        (json!({"input_data": 1, "timeout": 1e300}).to_string(), 400, "invalid_value", Some("timeout")),
        (json!({"input_data": 1, "tags": "x"}).to_string(), 400, "invalid_value", Some("tags")),
        (json!({"input_data": 1, "include_metadata": "true"}).to_string(), 400, "invalid_value", Some("include_metadata")),
        (json!({"input_data": 1, "parameters": []}).to_string(), 400, "invalid_value", Some("parameters")),
        (json!({"input_data": 1, "custom_data": "x"}).to_string(), 400, "invalid_value", Some("custom_data")),
        (json!({"documents": [{"name": "a"}]}).to_string(), 400, "invalid_value", Some("documents[0].content_base64")),
        (json!({"documents": [{"content_base64": ""}]}).to_string(), 400, "invalid_value", Some("documents[0].name")),
        (json!({"documents": [document("a", 3), {"name": "b", "content_base64": "%%%"}]}).to_string(), 400, "invalid_value", Some("documents[1].content_base64")),
        (json!({"documents": [{"name": "b", "content_base64": "", "size": 1}]}).to_string(), 400, "invalid_value", Some("documents[0].size")),
        (json!({"documents": [document("a", 1002)]}).to_string(), 413, "payload_too_large", Some("documents[0]")),
        (json!({"documents": [document("a", 3), document("a", 3), document("a", 3)]}).to_string(), 413, "payload_too_large", None),
        (json!({"input_data": "x".repeat(20_000)}).to_string(), 413, "payload_too_large", None),
    ] {
        let shown = body.chars().take(100).collect::<String>();
        let answer = send(api, &target, "application/json; charset=utf-8", body).await;
        assert!(answer.headers().contains_key("ratelimit-remaining"), "{shown}");
        assert_eq!(answer.status(), status, "{shown}: {}", answer.text().await.unwrap());
        let refused = refusal(answer, status, code).await;
        assert_eq!(places(&refused), place.as_slice(), "{shown}");
    }
    let answer = send(api, &target, "application/json", "{\n  \"input_data\": oops}").await;
    let detail = refusal(answer, 400, "invalid_json").await["errors"][0]["detail"].clone();
    assert_eq!(detail, "Not valid JSON at line 2, column 17.");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_an_undeclared_or_unknown_or_compressed_kind_is_refused() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let path = format!("/deployment/{}/", target.public_id);
    let body = "{\"input_data\": 1}";
    let plain = || api.post(&path, &target.key).body(body);
    for request in [
        plain(),
        plain().header("content-type", ""),
        plain().header("content-type", "text/plain"),
        plain().header("content-type", "application/x-www-form-urlencoded"),
        plain().header("content-type", "application/jsonx"),
        plain().header("content-type", "application/json").header("content-encoding", "gzip"),
    ] {
        let answer = request.send().await.unwrap();
        assert!(answer.headers().contains_key("ratelimit-remaining"));
        refusal(answer, 415, "unsupported_media_type").await;
    }
    let same = plain().header("content-type", "APPLICATION/JSON").header("content-encoding", "identity");
    assert_eq!(same.send().await.unwrap().status(), 202);
    let workflows = "/unstract/acme/api/v2/workflow/";
    let answer = api.post(workflows, &target.platform_key).body("{}").send().await.unwrap();
    refusal(answer, 415, "unsupported_media_type").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deepest_json_that_is_taken_reaches_its_end_and_can_be_read() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(json!([{"uses": "template", "with": {"template": "ok"}}])).await;
    let through = api.deploy_in(ORG, &target.platform_key, "echo", echo(), json!({})).await;
    for depth in [100, 124, 126] {
        let body = format!("{{\"input_data\": {}{}}}", "[".repeat(depth), "]".repeat(depth));
        for target in [&target, &through] {
            let answer = send(api, target, "application/json", body.clone()).await;
            let id = json_of(answer, 202).await["execution_id"].as_str().unwrap().to_owned();
            let status = api.ended(target, &id).await;
            let path = format!("/deployment/{}/result/{id}/", target.public_id);
            let answer = api.get(&path, &target.key).send().await.unwrap();
            let code = if status["status"] == "COMPLETED" { 200 } else { 422 };
            assert_eq!(answer.status(), code, "{depth}: {status}");
            println!("{depth} {}: {}", target.api_name, status);
        }
    }
    server.stop().await;
}

/// Uploads are removed by tasks of their own after the answer.
async fn no_upload_is_left(database: &Database) {
    let folder = database.path("documents/uploads");
    let emptied = async {
        while std::fs::read_dir(&folder).is_ok_and(|mut left| left.next().is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, emptied).await.expect("no upload is left");
}

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
    let mut stream = connect(api).await;
    let media = format!("multipart/form-data; boundary={BOUNDARY}");
    stream.write_all(head(&target, &media, 1_000_000).as_bytes()).await.unwrap();
    stream.write_all(&file("a.txt", &"x".repeat(100_000))[..90_000]).await.unwrap();
    let folder = database.path("documents/uploads");
    let arriving = async {
        while !std::fs::read_dir(&folder).is_ok_and(|mut found| found.next().is_some()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, arriving).await.expect("the upload begins");
    assert_eq!(accepted.taken(), 1);
    drop(stream);
    no_upload_is_left(&database).await;
    let given_back = async {
        while accepted.taken() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, given_back).await.expect("the place is given back");
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
    let form = format!("multipart/form-data; boundary={BOUNDARY}");
    let in_file = file("a.txt", &"x".repeat(100));
    let in_field = field("input_data", "12345");
    let mut stalling = Vec::new();
    for (media, begun) in [
        ("application/json", &b"{\"input"[..]),
        ("application/json", &b""[..]),
        (form.as_str(), &b"--ed"[..]),
        (form.as_str(), &in_file[..100]),
        (form.as_str(), &in_field[..in_field.len() - 4]),
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
    for head in [head(&target, "application/json", 100_000), workflow] {
        let (mut reading, mut writing) = connect(api).await.into_split();
        writing.write_all(head.as_bytes()).await.unwrap();
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
    let head = head(&target, "application/json", 16_777_217);
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
    assert_eq!(raw(&server.api, b"").await.lines().next().unwrap_or_default(), "HTTP/1.1 408 Request Timeout");
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
    stream.write_all(head(&target, "application/json", 1000).as_bytes()).await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert_eq!(parsed(&answer).0, 429, "{answer}");
    assert!(answer.contains("retry-after: 1"), "{answer}");
    crate::wire::cancel(api, &target, &id).await;
    api.ended(&target, &id).await;
    server.stop().await;
}
