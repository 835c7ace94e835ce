//! One call of a language model over HTTP.

use std::time::Duration;

use chrono::Utc;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use super::provider::{self, KeyHeader, Provider};
use super::wire::{self, Asked, Refusal};
use super::{Ask, Reply, Settings};
use crate::outbound;

/// Bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of a refusal that are read.
const MAX_REFUSAL_BYTES: usize = 16 * 1024;

/// Why there is no answer. None of them holds anything of what was sent or
/// came back but a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The connection cannot be used as it is.
    Unusable,
    /// Its address is not allowed.
    Blocked,
    /// It could not be reached, or what came was no answer.
    Unreachable,
    /// It did not answer in time.
    TimedOut,
    /// It has no time now, and says for how long.
    Busy {
        /// What it answered.
        status: u16,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// It refuses the key.
    Denied,
    /// The account has nothing left to spend.
    NoQuota,
    /// The prompt is longer than the model takes.
    TooLong,
    /// It refuses the request.
    Refused {
        /// What it answered.
        status: u16,
    },
    /// Its answer is too large.
    TooLarge,
}

/// Where a model is.
///
/// # Errors
/// [`Failure::Unusable`], which the checks of connections keep away.
pub fn base_url(settings: &Settings) -> Result<Url, Failure> {
    let own = provider::find(&settings.provider).and_then(|provider| provider.base_url);
    let text = settings.base_url.as_deref().or(own).ok_or(Failure::Unusable)?;
    text.parse().map_err(|_| Failure::Unusable)
}

/// Asks a model at its [`base_url`] by a client that may reach it.
///
/// # Errors
/// See [`Failure`].
pub async fn call(client: &Client, settings: &Settings, ask: &Ask) -> Result<Reply, Failure> {
    let provider = provider::find(&settings.provider).ok_or(Failure::Unusable)?;
    let asked = Asked {
        settings,
        json_mode: settings.json_mode.unwrap_or(provider.json_mode),
        max_output_tokens: settings.output_tokens(ask.options.max_output_tokens),
        ask,
    };
    let (path, body) = wire::request(provider.protocol, &asked);
    let url = extended(base_url(settings)?, &path)?;
    let sent = client
        .post(url)
        .headers(headers(provider, settings)?)
        .timeout(ask.options.timeout)
        .body(body.to_string())
        .send();
    let response = sent.await.map_err(|error| failed(&error))?;
    if !response.status().is_success() {
        return Err(refused(response).await);
    }
    let bytes = read(response, MAX_ANSWER_BYTES).await?.ok_or(Failure::TooLarge)?;
    let protocol = provider.protocol;
    let parsing = tokio::task::spawn_blocking(move || {
        let body: Value = serde_json::from_slice(&bytes).ok()?;
        wire::reply(protocol, &body)
    });
    parsing.await.ok().flatten().ok_or(Failure::Unreachable)
}

/// The model's name is a part of some paths: it must stay one segment.
fn extended(mut base: Url, path: &[String]) -> Result<Url, Failure> {
    base.path_segments_mut().map_err(|()| Failure::Unusable)?.pop_if_empty().extend(path);
    Ok(base)
}

fn headers(provider: &Provider, settings: &Settings) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.extend(wire::header(provider.protocol));
    if let Some(key) = &settings.api_key {
        let key = key.expose_secret();
        let (name, value) = match provider.key_header {
            KeyHeader::Bearer => ("authorization", format!("Bearer {key}")),
            KeyHeader::Named(name) => (name, key.to_owned()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| Failure::Unusable)?;
        value.set_sensitive(true);
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

fn failed(error: &reqwest::Error) -> Failure {
    if outbound::is_blocked(error) {
        Failure::Blocked
    } else if error.is_timeout() {
        Failure::TimedOut
    } else {
        Failure::Unreachable
    }
}

async fn refused(response: Response) -> Failure {
    let status = response.status();
    let retry_after = outbound::headers::retry_after(response.headers(), Utc::now());
    // What it says tells reasons apart that share a status.
    let said = read(response, MAX_REFUSAL_BYTES).await.ok().flatten().unwrap_or_default();
    let said = wire::refusal(&said);
    let number = status.as_u16();
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Denied,
        StatusCode::TOO_MANY_REQUESTS if said == Refusal::NoQuota => Failure::NoQuota,
        StatusCode::PAYMENT_REQUIRED => Failure::NoQuota,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::REQUEST_TIMEOUT
        | StatusCode::CONFLICT
        | StatusCode::TOO_EARLY => Failure::Busy { status: number, retry_after },
        status if status.is_server_error() => Failure::Busy { status: number, retry_after },
        StatusCode::PAYLOAD_TOO_LARGE => Failure::TooLong,
        _ if said == Refusal::TooLong => Failure::TooLong,
        _ => Failure::Refused { status: number },
    }
}

/// The body, unless it is longer than `most`.
async fn read(mut response: Response, most: usize) -> Result<Option<Vec<u8>>, Failure> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
        if body.len() + piece.len() > most {
            return Ok(None);
        }
        body.extend_from_slice(&piece);
    }
    Ok(Some(body))
}
