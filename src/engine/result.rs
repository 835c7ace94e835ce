//! The result of an execution: one `FILE` a document, the same for both
//! families of routes.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Engine;
use super::directory::Entry;
use super::run::Job;
use super::walk::{DocumentOutcome, StepTime, error_value, seconds_between};
use crate::clock;
use crate::documents::StoreError as DocumentError;
use crate::store::StoreError;
use crate::store::retention::has_no_content;

/// How a submission without documents names its one result.
pub(super) const NO_DOCUMENT: &str = "input_data";

/// Why there is no result to be read.
#[derive(Debug, thiserror::Error)]
pub enum ResultError {
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// The store's, or the document store's as [`StoreError::Unavailable`].
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// The result of an execution that completed, as JSON text; none if it
    /// has none.
    ///
    /// # Errors
    /// See [`ResultError`].
    pub async fn result(&self, entry: &Entry, id: Uuid) -> Result<Option<String>, ResultError> {
        let row = self.context.store.execution(entry.id, id).await?;
        // The sweeper's clock may be ahead of this one, and the row be read
        // before it and the bytes after it: whole or expired, nothing else.
        if has_no_content(&row) || row.expires_at.is_some_and(|end| end <= clock::now()) {
            return Err(ResultError::Expired);
        }
        let Some(hash) = row.result_hash.as_deref().and_then(|hash| hash.parse().ok()) else {
            return Ok(row.result);
        };
        let bytes = match self.context.services.documents.read(hash, u64::MAX).await {
            Err(DocumentError::Missing(_)) if row.expires_at.is_some() => {
                return Err(ResultError::Expired);
            }
            read => read.map_err(|error| StoreError::Unavailable(error.to_string()))?,
        };
        let text = String::from_utf8(bytes.into())
            .map_err(|error| StoreError::Fault(error.to_string()))?;
        Ok(Some(text))
    }
}

/// The list of `FILE`.
pub(super) fn files(job: &Job, outcomes: Vec<DocumentOutcome>) -> Value {
    Value::Array(outcomes.into_iter().map(|outcome| file(job, outcome)).collect())
}

/// Why an execution failed of which every document failed.
pub(super) fn failure(outcomes: &[DocumentOutcome]) -> Option<Value> {
    let first = outcomes.iter().find_map(|outcome| outcome.output.as_ref().err())?;
    let mut error = error_value(first);
    if outcomes.len() > 1 {
        let detail =
            format!("all {} documents failed; the first: {}", outcomes.len(), first.detail);
        if let Some(object) = error.as_object_mut() {
            object.insert("detail".into(), detail.into());
        }
    }
    Some(error)
}

fn file(job: &Job, outcome: DocumentOutcome) -> Value {
    let request = &job.request;
    let elapsed = seconds_between(outcome.started_at, outcome.ended_at);
    let name = outcome.document.as_ref().map_or(NO_DOCUMENT, |document| &document.name).to_owned();
    let hash = outcome.document.as_ref().map(|document| document.hash.to_string());
    let mut metadata = json!({
        "source_name": name,
        "source_hash": hash,
        "execution_id": job.claim.execution_id,
        "workflow_id": job.revision.workflow_id,
        "organization_id": job.org_id,
        "tags": request.tags,
        "total_elapsed_time": elapsed,
    });
    // The caller's own words, for it to know the document again.
    if let (Some(fields), false) = (metadata.as_object_mut(), request.custom_data.is_null()) {
        fields.insert("custom_data".into(), request.custom_data.clone());
    }
    let source = outcome.document.as_ref().and_then(|document| document.source.as_ref());
    if let (Some(fields), Some(source)) = (metadata.as_object_mut(), source) {
        fields.insert("source_path".into(), source.path.clone().into());
    }
    let (status, error) = match &outcome.output {
        Ok(_) => ("Success", Value::Null),
        Err(error) => ("Failed", error.detail.clone().into()),
    };
    let mut file = Map::new();
    file.insert("file".into(), name.into());
    file.insert("file_execution_id".into(), outcome.id.to_string().into());
    file.insert("status".into(), status.into());
    let result = match outcome.output {
        Ok(output) => {
            let mut result = Map::new();
            result.insert("output".into(), output);
            if request.include_metadata {
                result.insert("metadata".into(), metadata.clone());
            }
            if request.include_metrics {
                result.insert("metrics".into(), metrics(&outcome.steps));
            }
            Value::Object(result)
        }
        Err(_) => Value::Null,
    };
    file.insert("result".into(), result);
    file.insert("error".into(), error);
    file.insert("metadata".into(), metadata);
    if request.include_extracted_text {
        file.insert("extracted_text".into(), outcome.extracted_text.into());
    }
    Value::Object(file)
}

/// Seconds and tries that each step took, by its id.
fn metrics(steps: &[StepTime]) -> Value {
    let of_step = |step: &StepTime| json!({"elapsed_seconds": step.seconds, "tries": step.tries});
    Value::Object(steps.iter().map(|step| (step.id.clone(), of_step(step))).collect())
}
