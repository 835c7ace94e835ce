//! The demo: its workflows on its documents, and the calls it prints.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Deserializer, Value, json};

use crate::support::{Database, Process, Server, read_json};

fn demo(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/demo")).join(name)
}

/// The fields of `invoice.pdf`, in the order of the workflow.
fn fields_of_the_invoice() -> Value {
    json!({
        "issuer": "Weir & Sluice Timberworks Ltd", "invoice_number": "WS-2026-0417",
        "invoice_date": "2026-10-14", "due_date": "2026-11-13", "order": "PO 88-1204",
        "currency": "GBP", "subtotal": 4643.6, "tax": 928.72, "total": 5572.32
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fields_of_both_demo_invoices_are_read_in_the_order_of_the_workflow() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let workflow = read_json(demo("invoice-fields.workflow.json"));
    let target = server.api.deploy(workflow["steps"].clone()).await;
    let second = json!({
        "issuer": "Mühlbach Werkzeug GmbH", "invoice_number": "2026-100583",
        "invoice_date": "2026-11-03", "due_date": "2026-11-17", "order": "B-7715",
        "currency": "EUR", "subtotal": 8803.0, "tax": 1672.57, "total": 10475.57
    });
    for (document, expected) in
        [("invoice.pdf", fields_of_the_invoice()), ("invoice-2.pdf", second)]
    {
        let fields = server.api.output(&target, &demo(document)).await;
        assert_eq!(fields.to_string(), expected.to_string());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_line_items_of_both_demo_invoices_add_up_to_the_subtotal() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let mut workflow = read_json(demo("invoice-lines.workflow.json"));
    // All but the load: what it loads is looked at here.
    assert_eq!(workflow["steps"].as_array_mut().unwrap().pop().unwrap()["uses"], "load_sql");
    let target = server.api.deploy(workflow["steps"].clone()).await;
    for (document, count, subtotal) in [("invoice.pdf", 8, 4643.6), ("invoice-2.pdf", 26, 8803.0)] {
        let rows = server.api.output(&target, &demo(document)).await;
        let rows = rows.as_array().unwrap();
        let positions: Vec<_> = rows.iter().map(|row| row["position"].clone()).collect();
        assert_eq!(positions, (1..=count).map(|n| json!(n)).collect::<Vec<_>>());
        let sum: f64 = rows.iter().map(|row| row["amount"].as_f64().unwrap()).sum();
        assert!((sum - subtotal).abs() < 0.005, "{document}: {sum}");
        for row in rows {
            let of = |name: &str| row[name].as_f64().unwrap();
            let difference = of("quantity") * of("unit_price") - of("amount");
            assert!(difference.abs() <= 0.005 + f64::EPSILON * 1e4, "{row}");
        }
    }
    server.stop().await;
}

/// Whether the programs are there that the printed calls need. On CI they
/// must be.
fn can_call() -> bool {
    let missing = |program: &&str| Command::new(program).arg("--version").output().is_err();
    let missing: Vec<_> = ["bash", "curl", "sqlite3"].into_iter().filter(missing).collect();
    let on_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(missing.is_empty() || !on_ci, "not installed: {missing:?}");
    if !missing.is_empty() {
        println!("skipped: the calls that the demo prints need {missing:?}");
    }
    missing.is_empty()
}

/// The indented calls among the printed lines; those without an empty line
/// between them go together.
fn calls(printed: &[String]) -> Vec<String> {
    let blocks = printed.split(|line| !line.starts_with("  "));
    blocks.filter(|block| !block.is_empty()).map(|block| block.join("\n")).collect()
}

/// What a call prints, run as it stands.
fn run(call: &str) -> String {
    let done = Command::new("bash").args(["-e", "-o", "pipefail", "-c", call]).output().unwrap();
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{call}\n{errors}");
    String::from_utf8(done.stdout).unwrap()
}

fn check_calls(printed: &[String]) {
    let calls = calls(printed);
    let [fields, load, rows, submit_and_wait] = calls.as_slice() else {
        panic!("other calls than expected: {calls:#?}");
    };
    let file = |result: &Value| result["result"][0]["result"]["output"].clone();
    let answer: Value = serde_json::from_str(&run(fields)).unwrap();
    assert_eq!(file(&answer), fields_of_the_invoice());
    let answer: Value = serde_json::from_str(&run(load)).unwrap();
    assert_eq!(answer["status"], "COMPLETED", "{answer}");
    let table = run(rows);
    let lines: Vec<_> = table.lines().collect();
    let [head, _, rows @ ..] = lines.as_slice() else { panic!("{table}") };
    assert!(head.starts_with("invoice_number  position"), "{table}");
    assert_eq!(rows.len(), 8, "{table}");
    assert!(rows.iter().all(|row| row.starts_with("WS-2026-0417")), "{table}");
    let answers = run(submit_and_wait);
    let answers = Deserializer::from_str(&answers).into_iter::<Value>();
    let answers: Vec<_> = answers.collect::<Result<_, _>>().unwrap();
    assert_eq!(answers.len(), 2, "{answers:?}");
    assert_eq!(file(&answers[1]), fields_of_the_invoice());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_calls_that_the_demo_prints_work_and_work_again_after_a_kill() {
    if !can_call() {
        return;
    }
    let database = Database::sqlite();
    for _ in 0..2 {
        let server = Process::start_with(&database, &["--demo"], &[]).await;
        check_calls(&server.printed);
        server.kill();
    }
}
