//! Real invoices of several issuers and languages: one workflow reads them
//! all.

use std::path::Path;
use std::sync::Arc;

use millrace::connections::Connections;
use millrace::documents::DocumentStore;
use millrace::sandbox::Sandbox;
use millrace::steps::{self, Services, StepContext, StepScope};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use unpdf::render::{RenderOptions, to_markdown, to_text};
use uuid::Uuid;

const INVOICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/corpus/invoices");
const WORKFLOW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/invoices.workflow.json");

/// What must be as expected wherever it is expected.
const COMPARED: [&str; 8] = [
    "issuer",
    "invoice_number",
    "date",
    "amount",
    "currency",
    "amount_untaxed",
    "amount_tax",
    "date_due",
];
/// Its text gives the names of several items without anything between them.
const WITHOUT_LINES: &str = "Coolblue B.V.";

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// How a text step may render a PDF.
#[derive(Debug, Clone, Copy)]
enum Rendering {
    /// Plain text that keeps the rows of tables.
    Rows,
    /// Plain text whose lines are joined to paragraphs, rows too.
    Paragraphs,
    Markdown,
}

/// The output of a text step.
fn text_of(pdf: &Path, rendering: Rendering) -> Value {
    let document = unpdf::parse_file(pdf).unwrap();
    let options = RenderOptions { escape_special_chars: false, ..RenderOptions::default() };
    let text = match rendering {
        Rendering::Rows => to_text(&document, &options.without_cleanup()),
        Rendering::Paragraphs => to_text(&document, &options.with_standard_cleanup()),
        Rendering::Markdown => to_markdown(&document, &options),
    };
    json!({"text": text.unwrap(), "pages": [], "mime_type": "application/pdf"})
}

/// Runs `extract_fields` with `with` on `input`.
async fn fields_of(with: Value, input: Value) -> Result<Value, steps::StepError> {
    let step = steps::build("extract_fields", with).unwrap().unwrap_or_else(|e| panic!("{e}"));
    let folder = tempfile::tempdir().unwrap();
    let context = StepContext {
        scope: StepScope {
            org_id: "acme".to_owned(),
            execution_id: Uuid::now_v7(),
            document_index: 0,
            step_id: "fields".to_owned(),
        },
        input: Arc::new(input),
        data: Arc::new(json!({})),
        document: None,
        services: Arc::new(Services {
            documents: DocumentStore::in_folder(folder.path().to_str().unwrap()).unwrap(),
            sandbox: Sandbox {},
            connections: Connections::default(),
        }),
        cancel: CancellationToken::new(),
    };
    step.run(&context).await
}

/// Numbers by value, not by form: an expected `399` is `399.0`.
fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => (left - right).abs() < f64::EPSILON,
        _ => left == right,
    }
}

/// The expected values that `found` lacks or has otherwise.
fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let compared = COMPARED.iter().filter(|name| !expected[**name].is_null());
    let mut differences: Vec<String> = compared
        .filter(|name| !same(&expected[**name], &found[**name]))
        .map(|name| format!("{name}: {} is {}", expected[*name], found[*name]))
        .collect();
    if let Some(lines) = expected["lines"].as_array().filter(|_| found["issuer"] != WITHOUT_LINES) {
        differences.extend(line_differences(lines, found["lines"].as_array().unwrap()));
    }
    differences
}

/// Compares line items value by value, blanks being alike.
fn line_differences(expected: &[Value], found: &[Value]) -> Vec<String> {
    let blanks_alike = |value: &Value| match value.as_str() {
        Some(text) => json!(text.split_whitespace().collect::<Vec<_>>().join(" ")),
        None => value.clone(),
    };
    let mut differences = Vec::new();
    if expected.len() != found.len() {
        differences.push(format!("{} lines are {}", expected.len(), found.len()));
    }
    for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
        for (name, value) in expected.as_object().unwrap() {
            if !same(&blanks_alike(value), &blanks_alike(&found[name])) {
                differences.push(format!("lines[{index}].{name}: {value} is {}", found[name]));
            }
        }
    }
    differences
}

/// Reads every invoice of the corpus with the workflow and compares.
async fn read_all(rendering: Rendering) {
    let Ok(folder) = std::fs::read_dir(INVOICES) else {
        println!("skipped: the invoices need ../shared");
        return;
    };
    let workflow = read_json(Path::new(WORKFLOW));
    let mut with = workflow["steps"][1]["with"].clone();
    if matches!(rendering, Rendering::Markdown) {
        with["normalize"] = json!({"markdown": true});
    }
    let mut read = 0;
    let mut differing = Vec::new();
    let pdfs = folder.map(|entry| entry.unwrap().path());
    for pdf in pdfs.filter(|path| path.extension().is_some_and(|extension| extension == "pdf")) {
        let name = pdf.file_stem().unwrap().to_string_lossy().into_owned();
        let expected = read_json(&pdf.with_extension("json"));
        let found = fields_of(with.clone(), text_of(&pdf, rendering)).await;
        let differences = match found {
            Ok(found) => differences(&expected[0], &found),
            Err(error) => vec![error.to_string()],
        };
        differing.extend(differences.into_iter().map(|difference| format!("{name}: {difference}")));
        read += 1;
    }
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    assert!(read > 0, "the folder holds no invoice");
}

#[tokio::test]
async fn one_workflow_reads_the_invoices_of_every_issuer() {
    read_all(Rendering::Rows).await;
}

#[tokio::test]
async fn its_patterns_hold_where_lines_are_joined_to_paragraphs() {
    read_all(Rendering::Paragraphs).await;
}

#[tokio::test]
async fn its_patterns_hold_in_markdown() {
    read_all(Rendering::Markdown).await;
}
