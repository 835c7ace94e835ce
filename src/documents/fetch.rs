//! Documents that stand at a URL, fetched into the store.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{ContentDisposition, HeaderValue as DispositionValue};
use percent_encoding::percent_decode_str;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_DISPOSITION, CONTENT_TYPE, LOCATION};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use url::Url;

use super::store::{DocumentStore, StoreError, Stored, Upload};
use crate::outbound::{self, Blocked, Outbound};

/// Redirects that are followed for one document.
const MAX_REDIRECTS: usize = 5;

/// Bytes of a URL.
pub const MAX_URL: usize = 8192;

/// What a URL of a document must be.
pub const URL_CURE: &str = "an https URL of at most 8192 bytes, without user and password";

/// `[fetch]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "config.toml documents every setting, once")]
pub struct FetchConfig {
    pub idle_seconds: u64,
    pub document_seconds: u64,
    pub per_submission: usize,
    pub max_in_flight: usize,
}

/// Why a document was not fetched. No text of the outside is in it.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL, or a redirect, leads to an address that is not allowed.
    #[error("the destination is not allowed")]
    Blocked,
    /// It did not come; the text says why, for callers.
    #[error("{0}")]
    Unavailable(String),
    /// It has more bytes than it may.
    #[error("too large")]
    TooLarge,
    /// The document store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Blocked> for FetchError {
    fn from(_: Blocked) -> Self {
        Self::Blocked
    }
}

/// A document that was fetched.
#[derive(Debug)]
pub struct Fetched {
    /// Where it is now.
    pub stored: Stored,
    /// What it is called there; not cleaned yet.
    pub name: String,
    /// The type that it was declared to be, if any.
    pub mime_type: Option<String>,
}

/// Fetches documents, a bounded number at once. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher {
    outbound: Outbound,
    documents: DocumentStore,
    idle: Duration,
    limit: Duration,
    places: Arc<Semaphore>,
    per_submission: usize,
}

impl Fetcher {
    /// One for the whole server.
    pub fn new(config: &FetchConfig, outbound: Outbound, documents: DocumentStore) -> Self {
        Self {
            outbound,
            documents,
            idle: Duration::from_secs(config.idle_seconds),
            limit: Duration::from_secs(config.document_seconds),
            places: Arc::new(Semaphore::new(config.max_in_flight)),
            per_submission: config.per_submission,
        }
    }

    /// Documents of one submission that may be fetched at once.
    pub fn per_submission(&self) -> usize {
        self.per_submission
    }

    /// Fetches the document at `url`, of at most `max_bytes` bytes. It waits
    /// for a place as long as its caller lets it. Dropping this ends the
    /// transfer and removes what arrived.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, url: Url, max_bytes: u64) -> Result<Fetched, FetchError> {
        let place = self.places.acquire().await;
        let _place = place.map_err(|_| unavailable("No document is fetched any more."))?;
        let transfer = timeout(self.limit, self.transfer(url, max_bytes));
        transfer.await.unwrap_or_else(|_| Err(too_slow()))
    }

    async fn transfer(&self, url: Url, max_bytes: u64) -> Result<Fetched, FetchError> {
        let standing = last_segment(&url);
        let response = self.follow(url).await?;
        let name = disposition_name(&response).unwrap_or(standing);
        let mime_type = header(&response, CONTENT_TYPE.as_str());
        let stored = self.store(response, max_bytes).await?;
        Ok(Fetched { stored, name, mime_type })
    }

    /// Asks, and follows redirects: the guard is asked anew for each, and
    /// nothing but the URL goes along.
    async fn follow(&self, mut url: Url) -> Result<Response, FetchError> {
        for _ in 0..=MAX_REDIRECTS {
            let client = self.outbound.for_document(&url)?;
            let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            let answered = timeout(self.idle, request.send()).await.map_err(|_| too_slow())?;
            let response = answered.map_err(|error| failure(&error))?;
            match response.status() {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => url = next(&url, &response)?,
                StatusCode::OK => return Ok(response),
                status => {
                    let class = status.as_u16() / 100;
                    let text =
                        format!("The URL was answered with a status of the class {class}xx.");
                    return Err(FetchError::Unavailable(text));
                }
            }
        }
        Err(unavailable("The URL redirects more than five times."))
    }

    /// Streams an answer into the store. Its declared length can only refuse
    /// it: what counts is what arrives.
    async fn store(&self, mut response: Response, max_bytes: u64) -> Result<Stored, FetchError> {
        if response.content_length().is_some_and(|declared| declared > max_bytes) {
            return Err(FetchError::TooLarge);
        }
        let mut upload = self.documents.upload().await?;
        match self.pour(&mut response, &mut upload, max_bytes).await {
            Ok(()) => Ok(upload.finish().await?),
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn pour(
        &self,
        response: &mut Response,
        upload: &mut Upload,
        max_bytes: u64,
    ) -> Result<(), FetchError> {
        loop {
            let piece = timeout(self.idle, response.chunk()).await.map_err(|_| too_slow())?;
            let Some(piece) = piece.map_err(|error| failure(&error))? else { return Ok(()) };
            if upload.size() + piece.len() as u64 > max_bytes {
                return Err(FetchError::TooLarge);
            }
            upload.write(piece).await?;
        }
    }
}

/// A URL that a document may be fetched from, if its address is allowed.
pub fn document_url(text: &str) -> Option<Url> {
    let url = (text.len() <= MAX_URL).then(|| Url::parse(text).ok()).flatten()?;
    (["http", "https"].contains(&url.scheme()) && is_anonymous(&url)).then_some(url)
}

fn is_anonymous(url: &Url) -> bool {
    url.has_host() && url.username().is_empty() && url.password().is_none()
}

/// Where a redirect leads: never from https to http, and with nobody's
/// password.
fn next(from: &Url, response: &Response) -> Result<Url, FetchError> {
    let place = header(response, LOCATION.as_str());
    let place = place.and_then(|place| from.join(&place).ok());
    let next = place.ok_or_else(|| unavailable("The URL redirects to nowhere."))?;
    let falls = from.scheme() == "https" && next.scheme() != "https";
    if falls || !is_anonymous(&next) { Err(FetchError::Blocked) } else { Ok(next) }
}

fn header(response: &Response, name: &str) -> Option<String> {
    Some(response.headers().get(name)?.to_str().ok()?.to_owned())
}

/// What the URL's path ends with.
fn last_segment(url: &Url) -> String {
    let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    percent_decode_str(last).decode_utf8_lossy().into_owned()
}

fn disposition_name(response: &Response) -> Option<String> {
    let value = response.headers().get(CONTENT_DISPOSITION)?;
    let value = DispositionValue::from_bytes(value.as_bytes()).ok()?;
    file_name(&ContentDisposition::from_raw(&value).ok()?)
}

/// The name of a file, in the plain form or the extended one, `filename*`
/// (RFC 6266).
pub fn file_name(disposition: &ContentDisposition) -> Option<String> {
    match (disposition.get_filename(), disposition.get_filename_ext()) {
        (Some(name), _) => Some(name.to_owned()),
        (None, Some(name)) => Some(String::from_utf8_lossy(&name.value).into_owned()),
        (None, None) => None,
    }
}

fn unavailable(text: &str) -> FetchError {
    FetchError::Unavailable(text.to_owned())
}

fn too_slow() -> FetchError {
    unavailable("The document did not come in time.")
}

/// The error's own text tells addresses.
fn failure(error: &reqwest::Error) -> FetchError {
    if outbound::is_blocked(error) {
        FetchError::Blocked
    } else if error.is_timeout() {
        too_slow()
    } else if outbound::has_source::<rustls::Error>(error) {
        unavailable("There is no safe connection to the server that the URL names.")
    } else if error.is_connect() {
        unavailable("The server that the URL names cannot be reached.")
    } else {
        unavailable("The transfer of the document broke off.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_stands_at_a_web_address_without_a_password() {
        let long = format!("https://example.com/{}", "a".repeat(MAX_URL));
        for text in [
            "",
            "example.com/a.pdf",
            "ftp://example.com/a.pdf",
            "file:///etc/passwd",
            "data:text/plain,a",
            "https://",
            "https://user@example.com/",
            "https://:password@example.com/",
            &long,
        ] {
            assert!(document_url(text).is_none(), "{text}");
        }
        assert!(document_url("HTTPS://example.com/a.pdf?sig=1").is_some());
    }

    #[test]
    fn a_document_is_called_what_its_path_ends_with() {
        for (url, expected) in [
            ("https://h/a/b%20c.pdf?sig=x/y#z", "b c.pdf"),
            ("https://h/a%2Fb.pdf", "a/b.pdf"),
            ("https://h/%ff", "\u{fffd}"),
            ("https://h/a/", ""),
            ("https://h", ""),
        ] {
            assert_eq!(last_segment(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
