//! A submission as a multipart form (RFC 7578), documents streamed.

use std::collections::HashSet;
use std::io::ErrorKind;

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::HttpRequest;
use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::links::{Given, Link};
use super::{Bounds, Draft, abandon, checks, document, file_too_large, store_away, too_many_files};
use crate::api::body;
use crate::api::budget::Share;
use crate::api::schemas::{Binary, Empty, JsonText, ObjectText};
use crate::documents::DocumentStore;
use crate::documents::fetch::{MAX_URL, file_name};
use crate::error::{ApiError, ApiResult, Code};
use crate::steps::DocumentRef;

/// More fields than a form may have besides its files.
const FIELDS: u64 = 16;

/// More bytes than stand between two parts.
const PART_HEAD: u64 = 16 * 1024;

/// A submission. It has at least one of `files`, `presigned_urls` or `input_data`.
//
// It documents the form; the form itself is read as a stream.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FormSubmission {
    /// The documents; the field may be repeated.
    files: Vec<Binary>,
    /// What the workflow works on besides documents: JSON text.
    input_data: JsonText,
    /// Values for the workflow's steps: JSON text of an object.
    parameters: ObjectText,
    /// More values for the workflow's steps: JSON text of an object.
    custom_data: ObjectText,
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
    /// Names to find the execution by, separated by commas.
    #[schemars(regex(pattern = r"^$|^[^\u0000,]{1,128}(,[^\u0000,]{1,128}){0,31}$"))]
    tags: String,
    /// Where more documents stand: `https` URLs, fetched before the answer, after the files. The field may be repeated.
    presigned_urls: Vec<String>,
    /// Not served: taken while it is empty.
    llm_profile_id: Empty,
    /// Not served: taken while it is empty.
    hitl_queue_name: Empty,
    /// Not served: taken while it is empty.
    hitl_packet_id: Empty,
}

pub(super) async fn read(
    request: &HttpRequest,
    payload: Payload,
    bounds: &Bounds<'_>,
    store: &DocumentStore,
) -> ApiResult<Draft> {
    let limit = most_bytes(bounds);
    body::check_length(request, limit)?;
    let mut form = Multipart::new(request.headers(), bounded(payload, limit));
    let mut draft = Draft::default();
    // They come after the files.
    let mut links = Vec::new();
    let mut share = bounds.bodies.share();
    let mut seen = HashSet::new();
    loop {
        let next = tokio::time::timeout(bounds.idle, form.try_next()).await;
        let next = next.map_err(|_| ApiError::new(Code::RequestTimeout))?;
        let Some(field) = next.map_err(|error| broken(&error))? else {
            draft.documents.append(&mut links);
            return Ok(draft);
        };
        let name = field.name().unwrap_or_default().to_owned();
        let is_full = draft.documents.len() + links.len() == bounds.max_files;
        if name == "files" {
            let position = draft.documents.len();
            if is_full {
                return Err(too_many_files("files", position, bounds));
            }
            let document = file(field, position, bounds, store).await?;
            checks::document_type(&document, format!("files[{position}]"), bounds, store).await?;
            draft.documents.push(Given::Sent(document));
            continue;
        }
        let text = text(field, &name, bounds, &mut share).await?;
        if name == "presigned_urls" {
            if text.trim().is_empty() {
                continue;
            }
            if is_full {
                return Err(too_many_files("presigned_urls", links.len(), bounds));
            }
            let place = format!("presigned_urls[{}]", links.len());
            links.push(Given::Linked(Link::new(text.trim(), None, None, place)?));
            continue;
        }
        apply(&mut draft, &name, &text)?;
        // Known fields, each once: this bounds what a form takes in memory.
        if !seen.insert(name.clone()) {
            return Err(ApiError::at(Code::InvalidValue, name, "send this field once"));
        }
    }
}

/// The most bytes that a form within the deployment's limits has.
fn most_bytes(bounds: &Bounds<'_>) -> u64 {
    let each = bounds.max_file_bytes.max(MAX_URL as u64);
    let files = (bounds.max_files as u64).saturating_mul(each);
    let fields = FIELDS.saturating_mul(bounds.max_field_bytes as u64);
    let heads = (bounds.max_files as u64 + FIELDS).saturating_mul(PART_HEAD);
    files.saturating_add(fields).saturating_add(heads)
}

/// The payload up to `limit` bytes. What stands between the parts belongs to
/// no file and no field, whose own limits would end it.
fn bounded(
    payload: Payload,
    limit: u64,
) -> impl Stream<Item = Result<Bytes, PayloadError>> + 'static {
    let mut left = limit;
    payload.map(move |piece| {
        let piece = piece?;
        let room = left.checked_sub(piece.len() as u64);
        left = room.ok_or_else(|| PayloadError::Io(ErrorKind::FileTooLarge.into()))?;
        Ok(piece)
    })
}

fn broken(error: &MultipartError) -> ApiError {
    let detail = match error {
        // As `bounded` says it; an overflow is that of a part's head.
        MultipartError::Payload(PayloadError::Io(error))
            if error.kind() == ErrorKind::FileTooLarge =>
        {
            return ApiError::new(Code::PayloadTooLarge);
        }
        MultipartError::ContentTypeMissing
        | MultipartError::ContentTypeParse
        | MultipartError::BoundaryMissing => {
            "The parts are not divided by the boundary that `Content-Type` names."
        }
        MultipartError::ContentDispositionMissing
        | MultipartError::ContentDispositionNameMissing => {
            "Each part needs `Content-Disposition: form-data; name=\"…\"`, in UTF-8."
        }
        MultipartError::Incomplete | MultipartError::Payload(PayloadError::Incomplete(_)) => {
            "The form breaks off before its closing boundary."
        }
        _ => Code::InvalidForm.detail(),
    };
    ApiError::with_detail(Code::InvalidForm, detail)
}

/// Streams a file into the store, piece by piece.
async fn file(
    mut field: Field,
    position: usize,
    bounds: &Bounds<'_>,
    store: &DocumentStore,
) -> ApiResult<DocumentRef> {
    // RFC 7578 section 4.2 forbids the extended form, `filename*`; some
    // clients send names beyond ASCII so all the same.
    let name = field.content_disposition().and_then(file_name).unwrap_or_default();
    let mime_type = field.content_type().map(ToString::to_string);
    let mut upload = store.upload().await.map_err(|error| store_away(&error))?;
    loop {
        let piece = match tokio::time::timeout(bounds.idle, field.next()).await {
            Err(_) => return abandon(upload, ApiError::new(Code::RequestTimeout)).await,
            Ok(None) => break,
            Ok(Some(Err(error))) => return abandon(upload, broken(&error)).await,
            Ok(Some(Ok(piece))) => piece,
        };
        if upload.size() + piece.len() as u64 > bounds.max_file_bytes {
            return abandon(upload, file_too_large(bounds, format!("files[{position}]"))).await;
        }
        if let Err(error) = upload.write(piece).await {
            return abandon(upload, store_away(&error)).await;
        }
    }
    let stored = upload.finish().await.map_err(|error| store_away(&error))?;
    Ok(document(&name, position, mime_type, stored))
}

async fn text(
    mut field: Field,
    name: &str,
    bounds: &Bounds<'_>,
    share: &mut Share,
) -> ApiResult<String> {
    let mut bytes = Vec::new();
    loop {
        let piece = tokio::time::timeout(bounds.idle, field.next()).await;
        let piece = piece.map_err(|_| ApiError::new(Code::RequestTimeout))?;
        let Some(piece) = piece else { break };
        let piece = piece.map_err(|error| broken(&error))?;
        if bytes.len() + piece.len() > bounds.max_field_bytes {
            let detail = format!("This field may have {} bytes.", bounds.max_field_bytes);
            return Err(ApiError::at(Code::PayloadTooLarge, name, detail));
        }
        share.grow(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    String::from_utf8(bytes).map_err(|_| ApiError::at(Code::InvalidValue, name, "UTF-8 text"))
}

fn apply(draft: &mut Draft, name: &str, text: &str) -> ApiResult<()> {
    let request = &mut draft.request;
    match name {
        "input_data" => request.input_data = json(name, text)?,
        "parameters" => request.parameters = json(name, text)?,
        "custom_data" => request.custom_data = json(name, text)?,
        "include_metadata" => request.include_metadata = boolean(name, text)?,
        "include_metrics" => request.include_metrics = boolean(name, text)?,
        "include_extracted_text" => request.include_extracted_text = boolean(name, text)?,
        "use_file_history" => drop(boolean(name, text)?),
        "tags" => {
            let tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
            request.tags = tags.map(ToOwned::to_owned).collect();
        }
        "timeout" => {
            let wrong = |_| ApiError::at(Code::InvalidValue, name, "a whole number of seconds");
            draft.timeout = text.trim().parse().map_err(wrong)?;
        }
        "llm_profile_id" | "hitl_queue_name" | "hitl_packet_id" => {
            if !text.trim().is_empty() {
                let detail = "this server has no use for it; leave it out or empty";
                return Err(ApiError::at(Code::InvalidValue, name, detail));
            }
        }
        _ => {
            let known = "files, input_data, parameters, custom_data, timeout, include_metadata, \
                         include_metrics, include_extracted_text, use_file_history, tags, \
                         presigned_urls, llm_profile_id, hitl_queue_name, hitl_packet_id";
            let detail = format!("unknown field; there are: {known}");
            return Err(ApiError::at(Code::InvalidValue, name, detail));
        }
    }
    Ok(())
}

/// A form sends a field that nobody filled in as empty text.
fn json(name: &str, text: &str) -> ApiResult<Value> {
    if text.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(text).map_err(|error| {
        let detail = format!("JSON text; line {}, column {}", error.line(), error.column());
        ApiError::at(Code::InvalidValue, name, detail)
    })
}

fn boolean(name: &str, text: &str) -> ApiResult<bool> {
    match text.trim() {
        "true" | "True" | "1" => Ok(true),
        "false" | "False" | "0" | "" => Ok(false),
        _ => Err(ApiError::at(Code::InvalidValue, name, "true or false")),
    }
}
