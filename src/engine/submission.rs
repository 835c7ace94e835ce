//! What a caller submits besides documents, as it is stored and as steps see
//! it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Tags of one execution.
pub const MAX_TAGS: usize = 32;

/// Characters of a tag.
pub const MAX_TAG: usize = 128;

/// Whether an execution can be found by this tag. Postgres cannot store NUL.
pub fn is_tag(text: &str) -> bool {
    !text.is_empty() && text.chars().nth(MAX_TAG).is_none() && !text.contains('\0')
}

/// The stored form of a submission.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// The caller's JSON.
    pub input_data: Value,
    /// Values for the workflow.
    pub parameters: Value,
    /// More values for the workflow, in Unstract's form.
    pub custom_data: Value,
    /// Names to find the execution by.
    pub tags: Vec<String>,
    /// Whether each result brings its metadata.
    pub include_metadata: bool,
    /// Whether each result brings the time of each step.
    pub include_metrics: bool,
    /// Whether each result brings the document's text.
    pub include_extracted_text: bool,
}
