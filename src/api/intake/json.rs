//! A submission as JSON, documents inline in base64.

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Bounds, Intake, checks, document, file_too_large, put, too_many_files};
use crate::api::body::{self, off_thread};
use crate::api::schemas::Base64;
use crate::documents::DocumentStore;
use crate::engine::submission::Request;
use crate::error::{ApiError, ApiResult, Code};

/// A document within a JSON submission.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InlineDocument {
    /// Name of the document; need not be unique.
    name: String,
    /// The document's bytes in base64 (RFC 4648, section 4).
    #[schemars(with = "Base64")]
    content_base64: String,
    /// Declared media type. The content decides.
    #[serde(default)]
    mime_type: Option<String>,
}

/// A submission. It has at least one document or `input_data`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
pub(super) struct JsonSubmission {
    /// What the workflow works on besides documents: any JSON.
    input_data: Value,
    /// Values for the workflow's steps: an object.
    #[schemars(with = "Option<Map<String, Value>>")]
    parameters: Value,
    /// More values for the workflow's steps: an object.
    #[schemars(with = "Option<Map<String, Value>>")]
    custom_data: Value,
    /// The documents.
    documents: Vec<InlineDocument>,
    /// Seconds to wait for the result, −1 to 300; 0 or less answers at once.
    #[schemars(range(min = -1, max = 300))]
    timeout: i32,
    /// Whether each result brings its metadata.
    include_metadata: bool,
    /// Whether each result brings the time of each step.
    include_metrics: bool,
    /// Whether each result brings the document's text.
    include_extracted_text: bool,
    /// Taken for the sake of Unstract's clients; every document is processed anew.
    use_file_history: bool,
    /// Names to find the execution by.
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = r"^[^\u0000]*$"))
    )]
    tags: Vec<String>,
}

pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    bounds: &Bounds<'_>,
    store: &DocumentStore,
) -> ApiResult<Intake> {
    let share = bounds.bodies.share();
    // Held until every document within is stored.
    let (bytes, _share) =
        body::collect(request, payload, bounds.max_json_bytes, bounds.idle, share).await?;
    let parse = move || body::parse(&bytes).and_then(body::typed::<JsonSubmission>);
    let submission = off_thread(parse).await?;
    if submission.documents.len() > bounds.max_files {
        return Err(too_many_files(bounds, "documents"));
    }
    let mut intake = Intake {
        request: Request {
            input_data: submission.input_data,
            parameters: submission.parameters,
            custom_data: submission.custom_data,
            tags: submission.tags,
            include_metadata: submission.include_metadata,
            include_metrics: submission.include_metrics,
            include_extracted_text: submission.include_extracted_text,
        },
        documents: Vec::with_capacity(submission.documents.len()),
        timeout: submission.timeout,
        keyed: None,
    };
    for (position, inline) in submission.documents.into_iter().enumerate() {
        let place = format!("documents[{position}].content_base64");
        let text = inline.content_base64;
        if least_decoded(&text) > bounds.max_file_bytes {
            return Err(file_too_large(bounds, format!("documents[{position}]")));
        }
        let decode = move || {
            STANDARD
                .decode(text)
                .map_err(|_| ApiError::at(Code::InvalidValue, place, "valid base64"))
        };
        let content = off_thread(decode).await?;
        if content.len() as u64 > bounds.max_file_bytes {
            return Err(file_too_large(bounds, format!("documents[{position}]")));
        }
        let stored = put(store, content).await?;
        let document = document(&inline.name, position, inline.mime_type, stored);
        checks::document_type(&document, format!("documents[{position}]"), bounds, store).await?;
        intake.documents.push(document);
    }
    Ok(intake)
}

/// The fewest bytes that a text of this length in base64 stands for: four
/// letters are three bytes, of which padding takes at most two.
fn least_decoded(text: &str) -> u64 {
    (text.len() as u64 / 4 * 3).saturating_sub(2)
}
