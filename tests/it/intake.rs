//! What a submission may look like, and what is refused of it.

use reqwest::Response;
use serde_json::{Value, json};

use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{FORM, JSON, echo, field, file, form, no_upload_is_left, part, places, refusal};

async fn send(api: &Api, target: &Target, media: &str, body: impl Into<reqwest::Body>) -> Response {
    let path = format!("/deployment/{}/", target.public_id);
    api.post(&path, &target.key).header("content-type", media).body(body).send().await.unwrap()
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
    json!([{"uses": "jq", "input": "", "with": {"filter": "del(.execution_id, .document.id)"}}])
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
        let by_form = outcome(api, &target, send(api, &target, FORM, body).await).await;
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
        let list = outcome(api, &target, send(api, &target, FORM, body).await).await;
        let names: Vec<_> = list.as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
        assert_eq!(names[0], "passwd");
        assert_eq!(names[1], "b.txt");
        assert_eq!(names[2..4], ["document-3", "document-4"]);
        assert_eq!(names[4], "\u{20ac}.pdf");
        assert_eq!(names[5], "Rechnung \u{e4}.pdf");
        let mut latin = part("name=\"files\"; filename=\"X\"", b"a");
        let place = latin.iter().position(|byte| *byte == b'X').unwrap();
        latin[place] = 0xe4;
        let refused = send(api, &target, FORM, form(&[latin])).await;
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

/// A body, and the status, code and place of its refusal.
type Case<'a> = (Vec<u8>, u16, &'a str, Option<&'a str>);

/// Fails unless every body is refused as it should be.
async fn assert_refused(api: &Api, target: &Target, media: &str, cases: Vec<Case<'_>>) {
    for (body, status, code, place) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(120)]).into_owned();
        let answer = send(api, target, media, body).await;
        assert!(answer.headers().contains_key("ratelimit-remaining"), "{shown}");
        assert_eq!(answer.status(), status, "{shown}");
        let refused = refusal(answer, status, code).await;
        assert_eq!(places(&refused), place.as_slice(), "{shown}");
    }
}

/// A server whose deployment takes two documents of 1000 bytes each.
async fn narrow(database: &Database) -> (Server, Target) {
    let changes = "[server]\nmax_json_bytes = 20000\nmax_field_bytes = 1000";
    let server = Server::start_with(database, changes).await;
    let key = server.api.organisation(ORG).await;
    let settings = json!({"max_files": 2, "max_file_bytes": 1000});
    let target = server.api.deploy_in(ORG, &key, "demo", echo(), settings).await;
    (server, target)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_form_is_refused_and_leaves_nothing_behind() {
    let database = Database::sqlite();
    let (server, target) = narrow(&database).await;
    let good = file("a.txt", "a");
    let mut truncated = form(&[good.clone(), file("b.txt", "bbbb")]);
    truncated.truncate(truncated.len() - 20);
    let endless_name = format!("name=\"files\"; filename=\"{}\"", "x".repeat(200_000));
    let bodies: [&[u8]; 7] = [
        b"",
        b"no form",
        &truncated,
        &good,
        b"--other\r\n\r\n--other--\r\n",
        b"--edge\r\n\r\nx\r\n--edge--\r\n",
        &part(&endless_name, b""),
    ];
    let mut cases: Vec<Case> =
        bodies.into_iter().map(|body| (body.to_vec(), 400, "invalid_form", None)).collect();
    cases.push((form(&[]), 400, "nothing_to_do", None));
    assert_refused(&server.api, &target, FORM, cases).await;
    for boundary in ["", "; boundary=", "; boundary=\"\""] {
        let media = format!("multipart/form-data{boundary}");
        let cases = vec![(form(std::slice::from_ref(&good)), 400, "invalid_form", None)];
        assert_refused(&server.api, &target, &media, cases).await;
    }
    no_upload_is_left(&database).await;
    assert_eq!(server.engine.context().accepted.taken(), 0, "every place is given back");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_field_of_a_form_that_is_wrong_is_refused_by_name() {
    let database = Database::sqlite();
    let (server, target) = narrow(&database).await;
    let good = || file("a.txt", "a");
    let (long, deep) = (format!("\"{}\"", "x".repeat(1000)), "[".repeat(200));
    let mut cases: Vec<Case> = Vec::new();
    for (name, value) in [
        ("file", "x"),
        ("", "x"),
        ("input_data", "{\"a\": "),
        ("input_data", &deep),
        ("parameters", "[1]"),
        ("custom_data", "1"),
        ("timeout", "301"),
        ("timeout", "-2"),
        ("timeout", "soon"),
        ("include_metadata", "yes"),
        ("use_file_history", "maybe"),
    ] {
        cases.push((form(&[good(), field(name, value)]), 400, "invalid_value", Some(name)));
    }
    let twice = form(&[good(), field("tags", "a"), field("tags", "b")]);
    let bytes = form(&[part("name=\"input_data\"", b"\"\xff\"")]);
    let large = file("b", &"x".repeat(1001));
    cases.extend([
        (twice, 400, "invalid_value", Some("tags")),
        (bytes, 400, "invalid_value", Some("input_data")),
        (form(&[field("input_data", &long)]), 413, "payload_too_large", Some("input_data")),
        (form(&[good(), large]), 413, "payload_too_large", Some("files[1]")),
        (form(&[good(), good(), good()]), 413, "payload_too_large", Some("files[2]")),
    ]);
    assert_refused(&server.api, &target, FORM, cases).await;
    no_upload_is_left(&database).await;
    assert_eq!(server.engine.context().accepted.taken(), 0, "every place is given back");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_object_is_refused_with_line_and_column() {
    let database = Database::sqlite();
    let (server, target) = narrow(&database).await;
    let deep = format!("{{\"input_data\": {}{}}}", "[".repeat(128), "]".repeat(128));
    let deeper = format!("{{\"input_data\": {}", "[".repeat(15_000));
    let mut cases: Vec<Case> = Vec::new();
    for body in [
        "",
        "{",
        "{\"input_data\": 1e999}",
        "{\"input_data\": \"\\ud800\"}",
        "\u{feff}{\"input_data\": 1}",
        "{\"input_data\": 1} x",
        &deep,
        &deeper,
    ] {
        cases.push((body.into(), 400, "invalid_json", None));
    }
    for body in ["[]", "[1]", "1", "null", "\"x\""] {
        cases.push((body.into(), 400, "invalid_value", None));
    }
    assert_refused(&server.api, &target, JSON, cases).await;
    let answer = send(&server.api, &target, JSON, "{\n  \"input_data\": oops}").await;
    let detail = refusal(answer, 400, "invalid_json").await["errors"][0]["detail"].clone();
    assert_eq!(detail, "Not valid JSON at line 2, column 17.");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_json_that_is_wrong_is_refused_with_its_place() {
    let database = Database::sqlite();
    let (server, target) = narrow(&database).await;
    let document = |bytes: usize| json!({"name": "a", "content_base64": "QUFB".repeat(bytes / 3)});
    let no_base64 = json!({"name": "b", "content_base64": "%%%"});
    let mut cases: Vec<Case> = Vec::new();
    for (body, place) in [
        (json!({"input": 1}), "input"),
        (json!({"input_data": 1, "timeout": 301}), "timeout"),
        (json!({"input_data": 1, "timeout": -2}), "timeout"),
        (json!({"input_data": 1, "timeout": 1e300}), "timeout"),
        (json!({"input_data": 1, "tags": "x"}), "tags"),
        (json!({"input_data": 1, "include_metadata": "true"}), "include_metadata"),
        (json!({"input_data": 1, "parameters": []}), "parameters"),
        (json!({"input_data": 1, "custom_data": "x"}), "custom_data"),
        (json!({"documents": [{"name": "a"}]}), "documents[0].content_base64"),
        (json!({"documents": [{"content_base64": ""}]}), "documents[0].name"),
        (json!({"documents": [document(3), no_base64]}), "documents[1].content_base64"),
        (
            json!({"documents": [{"name": "b", "content_base64": "", "size": 1}]}),
            "documents[0].size",
        ),
    ] {
        cases.push((body.to_string().into(), 400, "invalid_value", Some(place)));
    }
    for (body, place) in [
        (json!({"documents": [document(1002)]}), Some("documents[0]")),
        (json!({"documents": [document(3), document(3), document(3)]}), Some("documents[2]")),
        (json!({"input_data": "x".repeat(20_000)}), None),
    ] {
        cases.push((body.to_string().into(), 413, "payload_too_large", place));
    }
    for body in ["{}", "{\"input_data\": null, \"documents\": []}"] {
        cases.push((body.into(), 400, "nothing_to_do", None));
    }
    assert_refused(&server.api, &target, "application/json; charset=utf-8", cases).await;
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
    let same =
        plain().header("content-type", "APPLICATION/JSON").header("content-encoding", "identity");
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
        }
    }
    server.stop().await;
}
