//! JSON bodies: bounded, in time, with faults that name their place.

use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
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
use crate::error::{ApiError, ApiResult, Code};

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
            let config = &state.ok_or_else(|| ApiError::new(Code::Internal))?.config;
            if !is_json(&request) {
                let detail = "Send `application/json`.";
                return Err(ApiError::with_detail(Code::UnsupportedMediaType, detail));
            }
            let idle = Duration::from_secs(config.body_idle_seconds);
            let bytes = collect(payload, config.max_json_bytes, idle).await?;
            let value = parse(&bytes)?;
            typed(value).map(Self)
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

/// Whether the body is declared as JSON.
pub fn is_json(request: &HttpRequest) -> bool {
    media_type(request).is_some_and(|media| media == "application/json")
}

/// The declared media type without its parameters, in lower case.
pub fn media_type(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(CONTENT_TYPE)?.to_str().ok()?;
    Some(header.split(';').next()?.trim().to_ascii_lowercase())
}

/// Reads a whole body of at most `limit` bytes whose silences are at most
/// `idle` long.
///
/// # Errors
/// `payload_too_large` or `request_timeout`.
pub async fn collect(mut payload: Payload, limit: usize, idle: Duration) -> ApiResult<Bytes> {
    let mut body = BytesMut::new();
    loop {
        let piece = tokio::time::timeout(idle, payload.next()).await;
        let Some(piece) = piece.map_err(|_| ApiError::new(Code::RequestTimeout))? else {
            return Ok(body.freeze());
        };
        let piece = piece
            .map_err(|_| ApiError::with_detail(Code::InvalidValue, "The body is broken off."))?;
        if body.len() + piece.len() > limit {
            let detail = format!("The body may have {limit} bytes.");
            return Err(ApiError::with_detail(Code::PayloadTooLarge, detail));
        }
        body.extend_from_slice(&piece);
    }
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
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let detail = error.inner().to_string();
        if path == "." {
            ApiError::with_detail(Code::InvalidValue, detail)
        } else {
            ApiError::at(Code::InvalidValue, path, detail)
        }
    })
}
