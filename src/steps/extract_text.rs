//! `extract_text`: the text of the document in work.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};
use crate::documents::StoreError;
use crate::documents::text::{ExtractText, Options, Output, Text, is_pdf};
use crate::sandbox::SandboxError;

const MAX_TIMEOUT_SECONDS: u64 = 300;
const MAX_BYTES: u64 = 512 << 20;

/// Parameters of `extract_text`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// How the text is written.
    format: Output,
    /// Seconds after which extraction is given up, 1 to 300.
    timeout_seconds: u64,
    /// Largest document in bytes, at most 536870912 (512 MiB).
    max_bytes: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self { format: Output::default(), timeout_seconds: 30, max_bytes: 100 << 20 }
    }
}

/// The step, checked.
pub struct ExtractTextStep {
    output: Output,
    limit: Duration,
    max_bytes: u64,
}

impl StepKind for ExtractTextStep {
    const NAME: &'static str = "extract_text";
    const SUMMARY: &'static str = "Takes the text from the document: PDF, office, web, mail and \
                                   text formats, as Markdown or plain text";
    const REFERENCE: Reference = Reference {
        about: "It reads PDF; Word, Excel and PowerPoint, new and old; OpenDocument; EPUB; RTF; HTML; e-mails (`.eml`, `.msg`, mbox) with their attachments; plain text, Markdown, CSV, TSV, XML, JSON. The content decides what a document is; name and declared type only break ties. Text in images is not read. It does not look at its input.

`millrace text --format layout FILE` prints what the step gives, for writing patterns.",
        output: r#"`{"text", "pages": [{"number", "title"?, "text"}], "mime_type"}`. Pages are those of a PDF, slides of a presentation, sheets of a workbook; for other formats the list is empty. `mime_type` is what the content is."#,
        errors: &[
            ("unsupported_document", "the content is of a form that is not read"),
            ("document_encrypted", "it is protected by a password"),
            ("document_malformed", "it is damaged"),
            ("document_has_no_text", "a PDF holds only images"),
            ("document_too_large", "it has more than `max_bytes`; or it unpacks to more than 512 MiB, or beyond 64 MiB to more than 200 times its size; or it holds more than 10,000 parts, or documents in each other more than 16 deep"),
            ("document_missing", "its content is no longer stored"),
            ("document_store_unavailable", "the document store is away; tried again"),
            ("parser_crashed", "the parser crashed or ran out of memory on it"),
            ("parser_timed_out", "it took more than `timeout_seconds`"),
            ("result_too_large", "its text is larger than 256 MiB"),
        ],
        example: r#"{"with": {"format": "plain"}, "document": {"name": "note.html", "text": "<h1>Order 7</h1><p>Two benches</p>"},
 "output": {"text": "Order 7\nTwo benches", "pages": [], "mime_type": "text/html"}}"#,
    };
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        if !(1..=MAX_TIMEOUT_SECONDS).contains(&params.timeout_seconds) {
            let detail = format!("must be from 1 to {MAX_TIMEOUT_SECONDS} seconds");
            return Err(ParamError::at("timeout_seconds", detail));
        }
        if !(1..=MAX_BYTES).contains(&params.max_bytes) {
            let detail = format!("must be from 1 to {MAX_BYTES} bytes");
            return Err(ParamError::at("max_bytes", detail));
        }
        Ok(Self {
            output: params.format,
            limit: Duration::from_secs(params.timeout_seconds),
            max_bytes: params.max_bytes,
        })
    }
}

#[async_trait]
impl Step for ExtractTextStep {
    /// Gives `{"text", "pages": [{"number", "title"?, "text"}], "mime_type"}`.
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let document = context.document.as_ref().ok_or_else(|| {
            StepError::bad_input(
                "extract_text works on a document, and this execution has none; submit a file",
            )
        })?;
        let services = &context.services;
        let read = services.documents.read(document.hash, self.max_bytes);
        let bytes = tokio::select! {
            biased;
            () = context.cancel.cancelled() => return Err(StepError::cancelled()),
            bytes = read => bytes.map_err(unreadable)?,
        };
        let options = Options {
            name: Some(document.name.clone()),
            mime_type: document.mime_type.clone(),
            output: self.output,
            second_reader: false,
        };
        let text = self.read(options, bytes, context).await?;
        // A text may have many megabytes, and is copied here.
        offload(move || serde_json::to_value(text).map_err(|_| StepError::crashed())).await
    }
}

impl ExtractTextStep {
    /// Reads the text in a child process. A PDF that its reader dies of, most
    /// often of a size that no memory holds, may be no trouble to the other.
    async fn read(
        &self,
        options: Options,
        bytes: Bytes,
        context: &StepContext,
    ) -> Result<Text, SandboxError> {
        let sandbox = &context.services.sandbox;
        let begun = Instant::now();
        let first = ExtractText(options.clone());
        let text = sandbox.call(first, bytes.clone(), self.limit, &context.cancel).await;
        if text != Err(SandboxError::Crashed) || !is_pdf(&bytes) {
            return text;
        }
        let second = ExtractText(Options { second_reader: true, ..options });
        let left = self.limit.saturating_sub(begun.elapsed());
        sandbox.call(second, bytes, left, &context.cancel).await
    }
}

fn unreadable(error: StoreError) -> StepError {
    match error {
        StoreError::TooLarge(limit) => StepError::permanent(
            "document_too_large",
            format!("the document has more than {limit} bytes; raise `max_bytes` or split it"),
        ),
        StoreError::Missing(_) => {
            StepError::permanent("document_missing", "the document is no longer stored")
        }
        StoreError::Backend(error) => {
            tracing::warn!(%error, "a document could not be read");
            StepError::transient("document_store_unavailable", "the document store is away")
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::steps::testing::{build, context};

    #[test]
    fn parameters_out_of_bounds_are_refused_by_name() {
        let refusal = |with: Value| build("extract_text", with).err().unwrap();
        assert_eq!(refusal(json!({"timeout_seconds": 301})).path, "timeout_seconds");
        assert_eq!(refusal(json!({"max_bytes": 0})).path, "max_bytes");
        assert_eq!(refusal(json!({"format": "html"})).path, "format");
        assert!(refusal(json!({"pages": 1})).detail.contains("unknown field"));
        assert!(build("extract_text", json!({"format": "plain"})).is_ok());
    }

    #[tokio::test]
    async fn an_execution_without_a_document_is_told_to_submit_one() {
        let step = build("extract_text", json!({})).unwrap();
        let error = step.run(&context(Value::Null, Value::Null)).await.unwrap_err();
        assert_eq!(error.code, "bad_step_input");
    }
}
