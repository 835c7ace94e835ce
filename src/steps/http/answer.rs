//! What a service answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::params::Answer;
use crate::outbound;
use crate::steps::{StepError, offload};

/// Headers that are told to later steps: nothing that opens anything.
const TOLD: [&str; 8] = [
    "content-type",
    "content-language",
    "date",
    "etag",
    "last-modified",
    "link",
    "location",
    "x-request-id",
];

/// The failure of a status that does not count as success.
pub(super) fn refusal(response: &Response) -> StepError {
    let status = response.status();
    let detail = format!("the service answered with status {}", status.as_u16());
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {}
        status if status.is_server_error() => {}
        _ => return StepError::permanent("http_refused", detail),
    }
    let wait = outbound::headers::retry_after(response.headers(), Utc::now());
    StepError::transient("http_unavailable", detail).after(wait)
}

/// Reads an answer of at most `max_bytes` bytes and makes the step's output.
pub(super) async fn read(
    mut response: Response,
    form: Answer,
    max_bytes: usize,
) -> Result<Value, StepError> {
    let (status, headers) = (response.status().as_u16(), told(response.headers()));
    let bytes = match form {
        Answer::None => Vec::new(),
        _ => collect(&mut response, max_bytes).await?,
    };
    let body = offload(move || decode(bytes, form)).await?;
    Ok(json!({"status": status, "headers": headers, "body": body}))
}

async fn collect(response: &mut Response, max_bytes: usize) -> Result<Vec<u8>, StepError> {
    let mut bytes = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| failure(&error))? {
        if bytes.len() + piece.len() > max_bytes {
            let detail = format!("the answer has more than {max_bytes} bytes");
            return Err(StepError::permanent("http_response_too_large", detail));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

fn decode(bytes: Vec<u8>, form: Answer) -> Result<Value, StepError> {
    let wrong = |detail: &str| StepError::permanent("http_response_invalid", detail);
    match form {
        Answer::None => Ok(Value::Null),
        Answer::Json if bytes.is_empty() => Ok(Value::Null),
        Answer::Json => serde_json::from_slice(&bytes).map_err(|_| {
            wrong("the answer is no JSON; read it with `response` text or bytes_base64")
        }),
        Answer::Text => String::from_utf8(bytes)
            .map(Value::from)
            .map_err(|_| wrong("the answer is not UTF-8; read it with `response` bytes_base64")),
        Answer::BytesBase64 => Ok(STANDARD.encode(bytes).into()),
    }
}

fn told(headers: &HeaderMap) -> Map<String, Value> {
    let texts = TOLD.into_iter().filter_map(|name| {
        let value = headers.get(name)?.to_str().ok()?;
        Some((name.to_owned(), value.into()))
    });
    texts.collect()
}

/// The failure of a call without an answer. The error's own text tells
/// addresses.
pub(super) fn failure(error: &reqwest::Error) -> StepError {
    let away = |detail: &str| StepError::transient("http_unavailable", detail);
    if outbound::is_blocked(error) {
        blocked()
    } else if error.is_timeout() {
        away("the service did not answer in time")
    } else if outbound::has_source::<rustls::Error>(error) {
        away(
            "there is no safe connection to the service: its certificate or its TLS is not accepted",
        )
    } else if error.is_connect() {
        away("the service cannot be reached")
    } else {
        away("the connection to the service broke off")
    }
}

/// The failure of a call that would lead inside.
pub(super) fn blocked() -> StepError {
    let detail = "the URL leads to an address that may not be called; only public ones may";
    StepError::permanent("blocked_destination", detail)
}
