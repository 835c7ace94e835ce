//! What `extract_fields` makes of a PDF.

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

/// Reads a JSON file.
pub fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// How a text step may render a PDF.
#[derive(Debug, Clone, Copy)]
pub enum Rendering {
    /// Plain text that keeps the rows of tables.
    Rows,
    /// Plain text whose lines are joined to paragraphs, rows too.
    Paragraphs,
    /// Markdown, its marks dropped again by the step.
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

/// The output of `extract_fields` with `with` on the text of `pdf`.
pub async fn fields_of(
    with: &Value,
    pdf: &Path,
    rendering: Rendering,
) -> Result<Value, steps::StepError> {
    let mut with = with.clone();
    if matches!(rendering, Rendering::Markdown) {
        with["normalize"] = json!({"markdown": true});
    }
    extract(with, text_of(pdf, rendering)).await
}

async fn extract(with: Value, input: Value) -> Result<Value, steps::StepError> {
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
