//! A submission as JSON, documents inline in base64 or by URL.

use actix_web::HttpRequest;
use actix_web::dev::Payload;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::links::{Given, Link};
use super::{Bounds, Draft, checks, document, file_too_large, put, too_many_files};
use crate::api::body::{self, off_thread};
use crate::api::schemas::Base64;
use crate::documents::DocumentStore;
use crate::engine::submission::Request;
use crate::error::{ApiError, ApiResult, Code};
use crate::steps::DocumentRef;

/// A document within a JSON submission.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged, try_from = "AnyDocument")]
pub(super) enum GivenDocument {
    Inline(InlineDocument),
    Linked(LinkedDocument),
}

/// A document that comes along.
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

/// A document that is fetched before the answer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkedDocument {
    /// Where it stands: an `https` URL without user and password. `http` only where the server's operator allows it.
    #[schemars(length(max = 8192))]
    url: String,
    /// Name of the document; by default the one that it has there.
    #[serde(default)]
    name: Option<String>,
    /// Declared media type; by default the one that it has there. The content decides.
    #[serde(default)]
    mime_type: Option<String>,
}

/// Either of them, so that a fault names its field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnyDocument {
    url: Option<String>,
    name: Option<String>,
    content_base64: Option<String>,
    mime_type: Option<String>,
}

impl TryFrom<AnyDocument> for GivenDocument {
    type Error = &'static str;

    fn try_from(any: AnyDocument) -> Result<Self, &'static str> {
        let AnyDocument { url, name, content_base64, mime_type } = any;
        match (url, content_base64) {
            (Some(url), None) => Ok(Self::Linked(LinkedDocument { url, name, mime_type })),
            (None, Some(content_base64)) => {
                let name = name.ok_or("missing field `name`")?;
                Ok(Self::Inline(InlineDocument { name, content_base64, mime_type }))
            }
            (None, None) => Err("missing field `content_base64`"),
            (Some(_), Some(_)) => Err("either `url` or `content_base64`"),
        }
    }
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
    documents: Vec<GivenDocument>,
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
) -> ApiResult<Draft> {
    let share = bounds.bodies.share();
    // Held until every document within is stored.
    let (bytes, _share) =
        body::collect(request, payload, bounds.max_json_bytes, bounds.idle, share).await?;
    let parse = move || body::parse(&bytes).and_then(body::typed::<JsonSubmission>);
    let submission = off_thread(parse).await?;
    if submission.documents.len() > bounds.max_files {
        return Err(too_many_files("documents", bounds.max_files, bounds));
    }
    let mut draft = Draft {
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
    };
    for (position, given) in submission.documents.into_iter().enumerate() {
        let place = format!("documents[{position}]");
        draft.documents.push(match given {
            GivenDocument::Inline(inline) => {
                Given::Sent(inlined(inline, position, place, bounds, store).await?)
            }
            GivenDocument::Linked(LinkedDocument { url, name, mime_type }) => {
                Given::Linked(Link::new(&url, name, mime_type, format!("{place}.url"))?)
            }
        });
    }
    Ok(draft)
}

/// Stores a document that came along.
async fn inlined(
    inline: InlineDocument,
    position: usize,
    place: String,
    bounds: &Bounds<'_>,
    store: &DocumentStore,
) -> ApiResult<DocumentRef> {
    let text = inline.content_base64;
    if least_decoded(&text) > bounds.max_file_bytes {
        return Err(file_too_large(bounds, place));
    }
    let content_place = format!("{place}.content_base64");
    let decode = move || {
        STANDARD
            .decode(text)
            .map_err(|_| ApiError::at(Code::InvalidValue, content_place, "valid base64"))
    };
    let content = off_thread(decode).await?;
    if content.len() as u64 > bounds.max_file_bytes {
        return Err(file_too_large(bounds, place));
    }
    let stored = put(store, content).await?;
    let document = document(&inline.name, position, inline.mime_type, stored);
    checks::document_type(&document, place, bounds, store).await?;
    Ok(document)
}

/// The fewest bytes that a text of this length in base64 stands for: four
/// letters are three bytes, of which padding takes at most two.
fn least_decoded(text: &str) -> u64 {
    (text.len() as u64 / 4 * 3).saturating_sub(2)
}
