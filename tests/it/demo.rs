//! The demo workflows on the demo documents.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::fields::{Rendering, fields_of, read_json};

const RENDERINGS: [Rendering; 3] = [Rendering::Rows, Rendering::Paragraphs, Rendering::Markdown];

fn demo(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/demo")).join(name)
}

async fn run(workflow: &str, document: &str, rendering: Rendering) -> Value {
    let workflow = read_json(&demo(workflow));
    fields_of(&workflow["steps"][1]["with"], &demo(document), rendering).await.unwrap()
}

#[tokio::test]
async fn the_fields_of_both_demo_invoices_are_read() {
    for rendering in RENDERINGS {
        let fields = run("invoice-fields.workflow.json", "invoice.pdf", rendering).await;
        assert_eq!(
            fields,
            json!({
                "issuer": "Weir & Sluice Timberworks Ltd", "invoice_number": "WS-2026-0417",
                "invoice_date": "2026-10-14", "due_date": "2026-11-13", "order": "PO 88-1204",
                "currency": "GBP", "subtotal": 4643.6, "tax": 928.72, "total": 5572.32
            })
        );
        let fields = run("invoice-fields.workflow.json", "invoice-2.pdf", rendering).await;
        assert_eq!(
            fields,
            json!({
                "issuer": "Mühlbach Werkzeug GmbH", "invoice_number": "2026-100583",
                "invoice_date": "2026-11-03", "due_date": "2026-11-17", "order": "B-7715",
                "currency": "EUR", "subtotal": 8803.0, "tax": 1672.57, "total": 10475.57
            })
        );
    }
}

#[tokio::test]
async fn the_line_items_of_both_demo_invoices_add_up_to_the_subtotal() {
    for rendering in RENDERINGS {
        for (document, count, subtotal) in
            [("invoice.pdf", 8, 4643.6), ("invoice-2.pdf", 26, 8803.0)]
        {
            let fields = run("invoice-lines.workflow.json", document, rendering).await;
            let items = fields["items"].as_array().unwrap();
            let positions: Vec<_> = items.iter().map(|item| item["position"].clone()).collect();
            assert_eq!(positions, (1..=count).map(|n| json!(n)).collect::<Vec<_>>());
            let amounts = items.iter().map(|item| item["amount"].as_f64().unwrap());
            let sum: f64 = amounts.sum();
            assert!((sum - subtotal).abs() < 0.005, "{document}: {sum}");
            for item in items {
                let of = |name: &str| item[name].as_f64().unwrap();
                let difference = of("quantity") * of("unit_price") - of("amount");
                assert!(difference.abs() <= 0.005 + f64::EPSILON * 1e4, "{item}");
            }
        }
    }
}
