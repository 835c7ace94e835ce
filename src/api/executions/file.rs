//! The form of a result, for the document: the engine writes it, and what it
//! wrote is passed on as it is.
#![expect(dead_code, reason = "documents what `engine::result` writes")]

use schemars::JsonSchema;
use serde_json::{Map, Value};

use crate::api::schemas::Id;

/// What came of one document.
#[derive(JsonSchema)]
pub struct FileResult {
    /// Name of the document; `input_data` where there was none.
    file: String,
    #[schemars(with = "Id")]
    file_execution_id: String,
    status: FileStatus,
    /// Null if it failed.
    result: Option<FileOutput>,
    /// Why it failed.
    error: Option<String>,
    metadata: FileMetadata,
    /// If the submission asked for it: the document's text, or null if no step read it.
    #[schemars(default)]
    extracted_text: Option<String>,
}

/// Whether its steps went through.
#[derive(JsonSchema)]
enum FileStatus {
    Success,
    Failed,
}

/// What the last step made of it.
#[derive(JsonSchema)]
struct FileOutput {
    output: Value,
    /// If the caller asked for it: as beside the result.
    metadata: Option<FileMetadata>,
    /// If the submission asked for it: seconds of each step, by its id.
    metrics: Option<Map<String, Value>>,
}

/// Where it came from and what it belongs to.
#[derive(JsonSchema)]
struct FileMetadata {
    source_name: String,
    /// blake3 of the document; null where there was none.
    source_hash: Option<String>,
    #[schemars(with = "Id")]
    execution_id: String,
    #[schemars(with = "Id")]
    workflow_id: String,
    organization_id: String,
    tags: Vec<String>,
    /// Seconds.
    total_elapsed_time: Option<f64>,
    /// What the submission gave.
    custom_data: Option<Map<String, Value>>,
    /// Its path in the source it was found in.
    #[schemars(default)]
    source_path: Option<String>,
}

/// What Unstract's form of a status says: the files once it completed, before
/// that and where there are none a text.
#[derive(JsonSchema)]
#[serde(untagged)]
pub enum StatusMessage {
    /// One entry a document.
    Files(Vec<FileResult>),
    /// The status, or why it failed.
    Text(String),
}
