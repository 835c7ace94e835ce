//! What is submitted, what the workflow makes of it and where it loads it.
//! All of it follows from a submission's marker, so that a repeat is the same
//! request and every result can be foretold.

use reqwest::RequestBuilder;
use reqwest::multipart::{Form, Part};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use serde_json::{Value, json};

use super::check::Row;
use crate::support::{Api, ORG, PATIENCE, Target};

/// The tables of the destination.
pub const TABLES: &[&str] = &["inserted", "upserted"];

/// So long that a pause, or a busy machine, makes no step fail.
const JQ_SECONDS: u32 = 60;
const TEXT_SECONDS: u32 = 300;

/// Every so many markers a document is so large that the outputs of its steps
/// go to the document store.
const LARGE_EVERY: usize = 16;
const LARGE: usize = 40_000;

/// A submission.
#[derive(Debug, Clone)]
pub struct Marker {
    /// Its name, unique in the run.
    pub name: String,
    number: usize,
}

impl Marker {
    /// The `number`th of a client: JSON, one document or two.
    pub fn new(client: usize, number: usize) -> Self {
        let kind = ["json", "one", "two"][number % 3];
        Self { name: format!("{kind}-{client}-{number}"), number }
    }

    fn files(&self) -> &'static [&'static str] {
        match self.number % 3 {
            1 => &["a.txt"],
            2 => &["a.txt", "b.txt"],
            _ => &[],
        }
    }

    /// The request, the same at every repeat.
    pub fn request(&self, api: &Api, targets: &Targets) -> RequestBuilder {
        let input = json!({"marker": self.name});
        let target = self.target(targets);
        let path = format!("/deployment/{}/", target.public_id);
        let request = api.post(&path, &target.key).header("Idempotency-Key", &self.name);
        if self.files().is_empty() {
            return request.json(&json!({"input_data": input}));
        }
        let form = Form::new().text("input_data", input.to_string());
        let part = |file: &str| {
            Part::bytes(content(&self.name, file).into_bytes()).file_name(file.to_owned())
        };
        let form = self.files().iter().fold(form, |form, file| form.part("files", part(file)));
        request.multipart(form)
    }

    /// The deployment that it is for.
    pub fn target<'a>(&self, targets: &'a Targets) -> &'a Target {
        if self.files().is_empty() { &targets.json } else { &targets.documents }
    }
}

/// The deployments under load.
pub struct Targets {
    json: Target,
    documents: Target,
}

impl Targets {
    /// Waits until a node has heard of them.
    pub async fn reach(&self, api: &Api) {
        for target in [&self.json, &self.documents] {
            let none = format!("/deployment/{}/status/{}/", target.public_id, uuid::Uuid::nil());
            let is_open =
                async || api.get(&none, &target.key).send().await.unwrap().status() == 404;
            let known = async { while !is_open().await {} };
            tokio::time::timeout(PATIENCE, known).await.expect("the node hears of its deployments");
        }
    }

    /// Makes them.
    pub async fn deploy(api: &Api) -> Self {
        let key = api.organisation(ORG).await;
        let sum = json!({"id": "value", "uses": "jq",
            "with": {"filter": ".marker + \" \" + ([range(100)] | add | tostring)",
                 "timeout_seconds": JQ_SECONDS}});
        let text = json!({"id": "text", "uses": "extract_text", "with": {"format": "plain", "timeout_seconds": TEXT_SECONDS}});
        let value = json!({"id": "value", "uses": "template",
            "with": {"template": "{{ input_data.marker }} {{ input.text | trim }}"}});
        let limits = json!({"max_concurrency": 16});
        let first = api.deploy_in(ORG, &key, "json", loading(&[sum]), limits.clone());
        let json = first.await;
        let documents = api.deploy_in(ORG, &key, "documents", loading(&[text, value]), limits);
        Self { json, documents: documents.await }
    }
}

/// Steps that bring the output of the last of `first` into both tables and
/// give it as the result.
fn loading(first: &[Value]) -> Value {
    let row = "{execution: $context.execution_id, marker: $context.input_data.marker, \
               file: ($context.document.name // \"input_data\"), value: .}";
    let rest = [
        json!({"id": "row", "uses": "jq",
               "with": {"filter": row, "timeout_seconds": JQ_SECONDS}}),
        json!({"id": "insert", "uses": "load_sql",
               "with": {"connection": "destination", "table": "inserted"}}),
        json!({"id": "upsert", "uses": "load_sql", "input": "/steps/row",
               "with": {"connection": "destination", "table": "upserted",
                        "mode": "upsert", "key": ["execution", "file"]}}),
        json!({"id": "give", "uses": "jq", "input": "/steps/value",
               "with": {"filter": ".", "timeout_seconds": JQ_SECONDS}}),
    ];
    first.iter().cloned().chain(rest).collect()
}

fn content(marker: &str, file: &str) -> String {
    let number: usize = marker.rsplit('-').next().and_then(|text| text.parse().ok()).unwrap();
    let filling =
        if number.is_multiple_of(LARGE_EVERY) { "x".repeat(LARGE) } else { String::new() };
    format!("the content of {file} in {marker}{filling}")
}

/// The output for a marker and a file.
pub fn expected(marker: &str, file: &str) -> Value {
    match file {
        "input_data" => json!(format!("{marker} 4950")),
        file => json!(format!("{marker} {}", content(marker, file))),
    }
}

/// All rows of the destination.
pub async fn rows(destination: &DatabaseConnection) -> Vec<Row> {
    let mut found = Vec::new();
    for table in TABLES {
        let query = format!("SELECT execution, marker, file FROM {table}");
        let query = Statement::from_string(destination.get_database_backend(), query);
        for row in destination.query_all_raw(query).await.unwrap() {
            let text = |name: &str| row.try_get::<String>("", name).unwrap();
            found.push(Row {
                table: (*table).to_owned(),
                execution: text("execution"),
                marker: text("marker"),
                file: text("file"),
            });
        }
    }
    found
}
