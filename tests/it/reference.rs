//! The reference of the step kinds is made from them, and its examples run.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millrace::steps::reference::{Example, page};
use millrace::steps::{KINDS, Kind};
use serde_json::{Value, json};

use crate::llm_server::{self, LlmServer, chat};
use crate::site::{self, Site, reply};
use crate::support::{Database, ORG, Server};

#[test]
fn the_page_is_made_from_the_kinds() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/steps.md");
    let made = page(KINDS).unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == made, "docs/steps.md is not what the kinds say: make docs-steps");
}

/// The connections of all examples, each with its kind's name before its own,
/// because they share a server.
fn connections(folder: &Path, llm: &str, http: &str) -> String {
    let mut text = String::new();
    for kind in KINDS {
        for (name, settings) in example(kind).connections {
            text.push_str(&format!("[[connections]]\norg_id = \"{ORG}\"\n"));
            text.push_str(&format!("name = \"{}-{name}\"\n", kind.name));
            for (field, value) in settings.as_object().unwrap() {
                text.push_str(&format!("{field} = {}\n", toml(value)));
            }
        }
    }
    let text = text.replace("{folder}", folder.to_str().unwrap());
    text.replace("{llm}", llm).replace("{http}", http)
}

/// What the model of the examples answers.
fn model_says(asked: &llm_server::Asked) -> Value {
    let prompt = asked.prompt();
    match prompt {
        _ if prompt.starts_with("Who sent this invoice") => {
            json!({"vendor": "Acme Ltd.", "total": 12.5})
        }
        _ => panic!("{prompt}"),
    }
}

/// A service that tells what it was asked.
async fn echo() -> Site {
    Site::start("127.0.0.1:0", |asked: &site::Asked| {
        let body: Value = serde_json::from_slice(&asked.body).unwrap_or_default();
        let told = json!({"method": asked.method, "path": asked.path, "body": body});
        reply("200 OK", "content-type: application/json\r\n", told.to_string())
    })
    .await
}

fn toml(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| format!("{name} = {}", toml(value)));
            format!("{{ {} }}", members.collect::<Vec<_>>().join(", "))
        }
        // What else is in them is written alike.
        other => other.to_string(),
    }
}

fn example(kind: &Kind) -> Example {
    serde_json::from_str(kind.reference.example)
        .unwrap_or_else(|error| panic!("{}: {error}", kind.name))
}

fn submission(example: &Example) -> Value {
    let content =
        example.document.as_ref().map(|document| match (&document.text, &document.file) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(file)) => {
                std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
            }
            _ => panic!("a document has a text or a file"),
        });
    let documents: Vec<Value> = content
        .iter()
        .zip(&example.document)
        .map(|(content, document)| {
            json!({"name": document.name, "content_base64": STANDARD.encode(content)})
        })
        .collect();
    json!({"input_data": example.input, "documents": documents})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_every_kind_gives_what_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::sqlite();
    let model = LlmServer::start(|_, asked| chat(model_says(asked))).await;
    let http = echo().await;
    let connections = connections(folder.path(), &model.url, &http.url(""));
    let server = Server::start_with(&database, &connections).await;
    let key = server.api.organisation(ORG).await;
    for kind in KINDS {
        let example = example(kind);
        let mut with = example.with.clone();
        if let Some(name) = with.get("connection").and_then(Value::as_str) {
            with["connection"] = format!("{}-{name}", kind.name).into();
        }
        let mut expected = example.output.clone();
        if let Some(name) = expected.get("connection").and_then(Value::as_str) {
            expected["connection"] = format!("{}-{name}", kind.name).into();
        }
        let steps = json!([{"uses": kind.name, "with": with}]);
        let name = kind.name.replace('_', "-");
        let target = server.api.deploy_in(ORG, &key, &name, steps, json!({})).await;
        let id = server.api.accepted(&target, &submission(&example)).await;
        let ended = server.api.ended(&target, &id).await;
        assert_eq!(ended["status"], "COMPLETED", "{}: {ended:#}", kind.name);
        let result = server.api.result(&target, &id).await;
        assert_eq!(result[0]["result"]["output"], expected, "{}", kind.name);
    }
    server.stop().await;
}
