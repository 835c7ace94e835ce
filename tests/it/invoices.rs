//! Real invoices of several issuers and languages: one workflow reads them
//! all.

use std::path::Path;

use serde_json::{Value, json};

use crate::fields::{Rendering, fields_of, read_json};

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
        println!("skipped: reading the invoices needs ../shared");
        return;
    };
    let workflow = read_json(Path::new(WORKFLOW));
    let with = &workflow["steps"][1]["with"];
    let mut read = 0;
    let mut differing = Vec::new();
    let pdfs = folder.map(|entry| entry.unwrap().path());
    for pdf in pdfs.filter(|path| path.extension().is_some_and(|extension| extension == "pdf")) {
        let name = pdf.file_stem().unwrap().to_string_lossy().into_owned();
        let expected = read_json(&pdf.with_extension("json"));
        let found = fields_of(with, &pdf, rendering).await;
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
