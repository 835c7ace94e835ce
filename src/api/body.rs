//! JSON bodies: bounded, in time, with faults that name their place.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::web::{Bytes, BytesMut, Data};
use actix_web::{FromRequest, HttpRequest};
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, Schema};
use futures_util::StreamExt;
use futures_util::future::{FutureExt, LocalBoxFuture};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::State;
use super::answer::{definitions, named};
use super::budget::Share;
use crate::error::{ApiError, ApiResult, Code};
pub use crate::form::Text;
use crate::form::{self, Misplaced};

/// A JSON body of a known form.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, ApiResult<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let request = request.clone();
        let payload = payload.take();
        async move {
            let state = request.app_data::<Data<State>>();
            let state = state.ok_or_else(|| ApiError::new(Code::Internal))?;
            let config = &state.config;
            if media_type(&request)? != "application/json" {
                let detail = "Send `application/json`.";
                return Err(ApiError::with_detail(Code::UnsupportedMediaType, detail));
            }
            let idle = Duration::from_secs(config.body_idle_seconds);
            let collected =
                collect(&request, payload, config.max_json_bytes, idle, state.bodies.share());
            let whole = Duration::from_secs(config.body_seconds);
            let (bytes, _share) = tokio::time::timeout(whole, collected)
                .await
                .map_err(|_| ApiError::new(Code::RequestTimeout))??;
            typed(off_thread(move || parse(&bytes)).await?).map(Self)
        }
        .boxed_local()
    }
}

impl<T: JsonSchema> ApiComponent for Body<T> {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        definitions::<T>()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        named::<T>()
    }
}

/// The declared media type without its parameters, in lower case; empty if
/// there is none.
///
/// # Errors
/// `unsupported_media_type` if the body is compressed.
pub fn media_type(request: &HttpRequest) -> ApiResult<String> {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    if header(CONTENT_ENCODING).is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
        let detail = "Send the body without `Content-Encoding`.";
        return Err(ApiError::with_detail(Code::UnsupportedMediaType, detail));
    }
    let declared = header(CONTENT_TYPE).unwrap_or_default();
    Ok(declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// Refuses a body that is declared longer than `limit` bytes, before any of it
/// is read.
///
/// # Errors
/// `payload_too_large`.
pub fn check_length(request: &HttpRequest, limit: u64) -> ApiResult<()> {
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    match declared.and_then(|length| length.parse::<u64>().ok()) {
        Some(length) if length > limit => Err(too_large(limit)),
        _ => Ok(()),
    }
}

/// The refusal of a body of more than `limit` bytes.
pub fn too_large(limit: u64) -> ApiError {
    ApiError::with_detail(Code::PayloadTooLarge, format!("The body may have {limit} bytes."))
}

/// Reads a whole body of at most `limit` bytes whose silences are at most
/// `idle` long. A body that is declared too long is not read at all. Hold the
/// share as long as the bytes, or what is made of them.
///
/// # Errors
/// `payload_too_large`, `request_timeout` or `server_busy`.
pub async fn collect(
    request: &HttpRequest,
    mut payload: Payload,
    limit: usize,
    idle: Duration,
    mut share: Share,
) -> ApiResult<(Bytes, Share)> {
    check_length(request, limit as u64)?;
    let mut body = BytesMut::new();
    loop {
        let piece = tokio::time::timeout(idle, payload.next()).await;
        let Some(piece) = piece.map_err(|_| ApiError::new(Code::RequestTimeout))? else {
            return Ok((body.freeze(), share));
        };
        let piece = piece
            .map_err(|_| ApiError::with_detail(Code::InvalidValue, "The body is broken off."))?;
        if body.len() + piece.len() > limit {
            return Err(too_large(limit as u64));
        }
        share.grow(piece.len())?;
        body.extend_from_slice(&piece);
    }
}

/// Megabytes of JSON or base64 are not for the thread that serves requests.
///
/// # Errors
/// Those of the work.
pub async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> ApiResult<T> + Send + 'static,
) -> ApiResult<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ApiError::new(Code::Internal)))
}

/// Parses JSON; a fault names line and column.
///
/// # Errors
/// `invalid_json`.
pub fn parse(bytes: &[u8]) -> ApiResult<Value> {
    serde_json::from_slice(bytes).map_err(|error| {
        let detail = format!("Not valid JSON at line {}, column {}.", error.line(), error.column());
        ApiError::with_detail(Code::InvalidJson, detail)
    })
}

/// Reads a value of a known form; a fault names the place in it.
///
/// # Errors
/// `invalid_value`.
pub fn typed<T: DeserializeOwned>(value: Value) -> ApiResult<T> {
    form::read(value).map_err(ApiError::from)
}

/// The refusal of a value that has not the known form.
pub fn misplaced<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> ApiError {
    Misplaced::of(error).into()
}

impl From<Misplaced> for ApiError {
    fn from(fault: Misplaced) -> Self {
        Self::all(Code::InvalidValue, [(fault.place, fault.cure)])
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read into")]
    struct Form {
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read into")]
    struct Item {
        size: u8,
        text: Option<Text>,
    }

    fn refusal(value: Value) -> Value {
        let error = typed::<Form>(value).unwrap_err();
        let body = actix_web::body::to_bytes(error.respond("r").into_body());
        let bytes = body.now_or_never().unwrap();
        let whole: Value = serde_json::from_slice(&bytes.unwrap_or_default()).unwrap();
        json!([whole["errors"][0]["attr"], whole["errors"][0]["detail"]])
    }

    #[test]
    fn a_fault_names_its_place_and_never_repeats_the_value() {
        for (value, attr, detail) in [
            (json!({}), json!("items"), "missing field `items`"),
            (json!({"items": "secret, expected u8"}), json!("items"), "expected a sequence"),
            (json!({"items": [{"size": "secret"}]}), json!("items[0].size"), "expected u8"),
            (json!({"items": [{"size": 256}]}), json!("items[0].size"), "expected u8"),
            (json!({"items": [{}]}), json!("items[0].size"), "missing field `size`"),
            (
                json!({"items": [{"size": 1, "text": "a\u{0}b"}]}),
                json!("items[0].text"),
                "text without the character U+0000",
            ),
        ] {
            assert_eq!(refusal(value), json!([attr, detail]));
        }
        let unknown = refusal(json!({"items": [{"size": 1, "seize": 1}]}));
        assert_eq!(unknown[0], "items[0].seize");
        assert_eq!(unknown[1], "unknown field; expected `size` or `text`");
    }

    #[test]
    fn the_place_of_a_fault_is_told_in_bounded_length() {
        let place = refusal(json!({"x".repeat(5000): 1}))[0].as_str().unwrap().len();
        assert_eq!(place, 200);
    }
}
