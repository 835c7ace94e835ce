//! Documents that a submission names by URL: fetched before it is accepted.

use futures_util::stream::{self, StreamExt, TryStreamExt};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::{Bounds, checks, document, store_away};
use crate::documents::DocumentStore;
use crate::documents::fetch::{FetchError, Fetcher, URL_CURE, document_url};
use crate::engine::idempotency::Identity;
use crate::error::{ApiError, ApiResult, Code};
use crate::steps::DocumentRef;

/// A document as a submission gives it.
pub(super) enum Given {
    /// It came along, and is stored.
    Sent(DocumentRef),
    /// It is to be fetched.
    Linked(Link),
}

/// A document that is to be fetched.
pub(super) struct Link {
    url: Url,
    /// The caller's own name for it; else it has one where it stands.
    name: Option<String>,
    mime_type: Option<String>,
    /// The URL's place in the submission.
    place: String,
}

impl Link {
    /// Takes a URL that documents may have.
    ///
    /// # Errors
    /// `invalid_value`.
    pub(super) fn new(
        text: &str,
        name: Option<String>,
        mime_type: Option<String>,
        place: String,
    ) -> ApiResult<Self> {
        let Some(url) = document_url(text) else {
            return Err(ApiError::at(Code::InvalidValue, place, URL_CURE));
        };
        Ok(Self { url, name, mime_type, place })
    }
}

impl Given {
    /// What makes it the same document when it is submitted again: its
    /// content, or its URL, whatever is there by then.
    pub(super) fn identity(&self) -> Identity {
        match self {
            Self::Sent(one) => Identity::Sent(one.name.clone(), one.hash, one.mime_type.clone()),
            Self::Linked(link) => Identity::Linked {
                url: link.url.to_string(),
                name: link.name.clone(),
                mime_type: link.mime_type.clone(),
            },
        }
    }
}

/// Fetches what is to be fetched, some at once, on the runtime of steps: its
/// connections may be used by anybody later. If one cannot be had, or the
/// caller goes away, the others end.
///
/// # Errors
/// Of the first one in the order of the submission.
pub(super) async fn fetch(
    given: Vec<Given>,
    fetcher: &Fetcher,
    work: &Handle,
    bounds: &Bounds<'_>,
    store: &DocumentStore,
) -> ApiResult<Vec<DocumentRef>> {
    let documents = given.into_iter().enumerate().map(|(position, given)| async move {
        let link = match given {
            Given::Sent(document) => return Ok(document),
            Given::Linked(link) => link,
        };
        let (fetcher, max_bytes) = (fetcher.clone(), bounds.max_file_bytes);
        let fetching = work.spawn(async move { fetcher.fetch(link.url, max_bytes).await });
        let fetched = AbortOnDropHandle::new(fetching).await;
        let fetched = fetched.map_err(|_| ApiError::new(Code::Internal))?;
        let fetched = fetched.map_err(|error| refused(&error, &link.place, bounds))?;
        let name = link.name.unwrap_or(fetched.name);
        let mime_type = link.mime_type.or(fetched.mime_type);
        let document = document(&name, position, mime_type, fetched.stored);
        checks::document_type(&document, link.place, bounds, store).await?;
        Ok(document)
    });
    stream::iter(documents).buffered(fetcher.per_submission()).try_collect().await
}

fn refused(error: &FetchError, place: &str, bounds: &Bounds<'_>) -> ApiError {
    match error {
        FetchError::Blocked => {
            let detail = "Documents are fetched by https from public addresses only.";
            ApiError::at(Code::BlockedDestination, place, detail)
        }
        FetchError::Unavailable(detail) => {
            ApiError::at(Code::DocumentUnavailable, place, detail.as_str())
        }
        FetchError::TooLarge => {
            let detail = format!("A document may have {} bytes.", bounds.max_file_bytes);
            ApiError::at(Code::DocumentTooLarge, place, detail)
        }
        FetchError::Store(error) => store_away(error),
    }
}
