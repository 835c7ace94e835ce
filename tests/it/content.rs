//! What a deployment takes: types of documents, and the form of its input.

use serde_json::{Value, json};

use crate::limits::{assert_answer, change};
use crate::support::{Database, ORG, PATIENCE, Server, json_of, on_each_database};
use crate::wire::{FORM, JSON, echo, field, form, header, part, places, refusal};

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// A program for Windows, as far as anybody looks.
fn program() -> Vec<u8> {
    [b"MZ\x90\0\x03\0\0\0\x04\0\0\0\xff\xff".as_slice(), &[0; 500]].concat()
}

on_each_database! {
    async fn the_type_of_a_document_is_that_of_its_content(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let settings = json!({"allowed_mime_types": ["application/pdf", "image/*"]});
        let target = api.deploy_in(ORG, &key, "demo", echo(), settings).await;
        let (pdf, image) = (b"%PDF-1.7\n%%EOF".to_vec(), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec());
        let executable = "application/vnd.microsoft.portable-executable";
        for (name, declared, content, found) in [
            ("real.pdf", "application/pdf", &pdf, None),
            ("notes.txt", "text/plain", &pdf, None),
            ("scan.pdf", "application/pdf", &image, None),
            ("invoice.pdf", "application/pdf", &program(), Some(executable)),
            ("invoice.pdf", "application/pdf", &b"plain".to_vec(), Some("text/plain")),
            ("picture.png", "image/png", &b"<html>".to_vec(), Some("text/html")),
        ] {
            let good = part("name=\"files\"; filename=\"a\"", &pdf);
            let head = format!("name=\"files\"; filename=\"{name}\"\r\nContent-Type: {declared}");
            let body = form(&[good, part(&head, content)]);
            let first = json!({"name": "a", "content_base64": base64(&pdf)});
            let second = json!({"name": name, "content_base64": base64(content), "mime_type": declared});
            let inline = json!({"documents": [first, second]}).to_string().into_bytes();
            let unstract = format!("/deployment/api/{ORG}/demo/");
            let own = format!("/deployment/{}/", target.public_id);
            for (path, media, body, place, status) in [
                (&own, FORM, body.clone(), "files[1]", 202),
                (&unstract, FORM, body, "files[1]", 200),
                (&own, JSON, inline, "documents[1]", 202),
            ] {
                let request = api.post(path, &target.key).header("content-type", media);
                let answer = request.body(body).send().await.unwrap();
                let Some(found) = found else {
                    json_of(answer, status).await;
                    continue;
                };
                assert!(!header(&answer, "ratelimit-remaining").is_empty());
                let refused = refusal(answer, 422, "unsupported_document").await;
                assert_eq!(places(&refused), [place]);
                let detail = refused["errors"][0]["detail"].as_str().unwrap();
                for told in [found, "application/pdf, image/*"] {
                    assert!(detail.contains(told), "{told} in {detail}");
                }
            }
        }
        // What was accepted ends, and what was refused holds no place.
        let emptied = async {
            while server.engine.context().accepted.taken() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, emptied).await.expect("every place is given back");
        server.stop().await;
    }
}

/// A schema with a reference, so that it is checked in a child process too.
fn with_reference() -> Value {
    json!({"$defs": {"name": {"type": "string", "minLength": 1}},
        "type": "object", "required": ["customer"], "additionalProperties": false,
        "properties": {
            "customer": {"type": "array", "items": {"properties": {"name": {"$ref": "#/$defs/name"}}}},
            "a/b": {"type": "integer"}}})
}

fn without_reference() -> Value {
    let mut schema = with_reference();
    schema["properties"]["customer"]["items"]["properties"]["name"] =
        schema["$defs"]["name"].clone();
    schema.as_object_mut().unwrap().remove("$defs");
    schema
}

on_each_database! {
    async fn input_that_breaks_the_schema_is_refused_at_each_pointer(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        for schema in [without_reference(), with_reference()] {
            change(api, &target, json!({"input_schema": schema})).await;
            for (input, wrong) in [
                (json!({"customer": []}), &[][..]),
                (json!({"customer": [{"name": "Ada"}], "a/b": 1}), &[]),
                (json!({"customer": [{"name": "Ada"}, {"name": 5}]}), &["/input_data/customer/1/name"]),
                (json!({"customer": [], "a/b": "x"}), &["/input_data/a~1b"]),
                (json!({"customer": [], "other": 1}), &["/input_data"]),
                (json!({"customer": [{"name": ""}], "a/b": null}),
                    &["/input_data/a~1b", "/input_data/customer/0/name"]),
                (json!({}), &["/input_data"]),
                (json!("secret"), &["/input_data"]),
            ] {
                let text = input.to_string();
                let by_form = form(&[field("input_data", &text)]);
                let path = format!("/deployment/{}/", target.public_id);
                let by_form = api.post(&path, &target.key).header("content-type", FORM).body(by_form);
                let by_json = api.post(&path, &target.key).json(&json!({"input_data": input}));
                for request in [by_form, by_json] {
                    let answer = request.send().await.unwrap();
                    if wrong.is_empty() {
                        json_of(answer, 202).await;
                        continue;
                    }
                    assert!(!header(&answer, "ratelimit-remaining").is_empty());
                    let refused = refusal(answer, 400, "input_schema_violated").await;
                    let mut found = places(&refused);
                    found.sort_unstable();
                    assert_eq!(found, wrong, "{text}");
                    assert!(!refused.to_string().contains("secret"));
                }
            }
            // What is not sent is null, and told to be missing.
            let documents = json!({"documents": [{"name": "a", "content_base64": ""}]});
            let refused = refusal(api.submit(&target, &documents).await, 400, "input_schema_violated").await;
            assert_eq!(places(&refused), ["/input_data"]);
            assert!(refused["errors"][0]["detail"].as_str().unwrap().starts_with("Send `input_data`"));
        }
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_violations_twenty_are_told_and_a_schema_that_explodes_is_stopped() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    change(api, &target, json!({"input_schema": {"items": {"type": "string"}}})).await;
    let many = json!({"input_data": vec![1; 1000]});
    let refused = refusal(api.submit(&target, &many).await, 400, "input_schema_violated").await;
    assert_eq!(refused["errors"].as_array().unwrap().len(), 20);
    // Each step doubles the work.
    let mut definitions = json!({"d0": {"type": "integer"}});
    for step in 1..60 {
        let below = json!({"$ref": format!("#/$defs/d{}", step - 1)});
        definitions[format!("d{step}")] = json!({"allOf": [below, below]});
    }
    let schema = json!({"$defs": definitions, "$ref": "#/$defs/d59"});
    change(api, &target, json!({"input_schema": schema})).await;
    let answer = api.submit(&target, &json!({"input_data": 1})).await;
    assert_answer(answer, 400, "input_schema_violated").await;
    server.stop().await;
}
