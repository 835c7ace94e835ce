//! Real invoices of several issuers and languages: one deployed workflow reads
//! them all.

use futures_util::future::join_all;
use serde_json::Value;

use crate::support::{Database, Server, corpus, read_json};

const WORKFLOW: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/invoices.workflow.json");

/// Expected values that no pattern can give: joined of several lines, without
/// the blanks that are printed, a day apart from its month, or in an image.
const NOT_COMPARED: &[(&str, &[&str])] = &[
    ("coolblue1", &["note"]),
    ("free_fiber", &["vat", "date_start"]),
    (
        "saeco",
        &[
            "static_vat",
            "bic",
            "iban",
            "telephone",
            "partner_website",
            "partner_email",
            "country_code",
            "partner_zip",
            "partner_city",
            "partner_street",
            "partner_coc",
        ],
    ),
];

/// Whether `found` has what is expected: numbers by value and not by form,
/// blanks alike, objects with further values allowed, lists in any order.
fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Number(expected), Value::Number(found)) => expected.as_f64() == found.as_f64(),
        (Value::String(expected), Value::String(found)) => {
            expected.split_whitespace().eq(found.split_whitespace())
        }
        (Value::Object(expected), Value::Object(found)) => expected
            .iter()
            .all(|(name, value)| found.get(name).is_some_and(|found| same(value, found))),
        (Value::Array(expected), Value::Array(found)) => {
            expected.len() == found.len()
                && expected.iter().all(|value| found.iter().any(|found| same(value, found)))
        }
        _ => expected == found,
    }
}

/// The expected values that `found` lacks or has otherwise.
fn differences(name: &str, expected: &Value, found: &Value) -> Vec<String> {
    let left_out = NOT_COMPARED.iter().find(|(invoice, _)| *invoice == name);
    let left_out = left_out.map_or(&[][..], |(_, names)| names);
    let compared = expected.as_object().unwrap().iter();
    let compared = compared.filter(|(field, _)| !left_out.contains(&field.as_str()));
    compared
        .filter(|(field, value)| !same(value, &found[*field]))
        .map(|(field, value)| format!("{name}: {field}: {value} is {}", found[field]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_workflow_reads_the_invoices_of_every_issuer() {
    let mut invoices = corpus("invoices");
    invoices.retain(|file| file.extension().is_some_and(|extension| extension == "pdf"));
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let target = server.api.deploy(read_json(WORKFLOW)["steps"].clone()).await;
    let reading = invoices.iter().map(|pdf| async {
        let name = pdf.file_stem().unwrap().to_string_lossy().into_owned();
        let expected = read_json(pdf.with_extension("json"));
        let found = server.api.output(&target, pdf).await;
        differences(&name, &expected[0], &found)
    });
    let differing: Vec<String> = join_all(reading).await.into_iter().flatten().collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    server.stop().await;
}
