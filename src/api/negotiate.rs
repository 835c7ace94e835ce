//! What HTTP leaves to be agreed on: `HEAD`, and the form of answers.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{Accept, Header, Quality};
use actix_web::middleware::Next;

use super::events;
use crate::error::{ApiError, Code};

/// What a caller may accept so that a route can answer it.
const SPOKEN: [&str; 3] = ["*/*", "application/*", "application/json"];

/// The same for a route that answers with server-sent events.
const STREAMED: [&str; 3] = ["*/*", "text/*", "text/event-stream"];

/// The middleware: `HEAD` is served as `GET` (RFC 9110 section 9.1; the server
/// leaves the body out), and a caller that takes none of the types we speak is
/// refused before anything is done.
///
/// # Errors
/// `not_acceptable`, and those of the service.
pub async fn negotiate<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    // A header that cannot be read is none.
    let accept = Accept::parse(&request).unwrap_or_else(|_| Accept::star());
    let streams = events::is_path(request.path());
    let spoken = if streams { STREAMED } else { SPOKEN };
    let fits = accept.iter().any(|wanted| {
        wanted.quality > Quality::ZERO && spoken.contains(&wanted.item.essence_str())
    });
    if !accept.is_empty() && !fits {
        let streamed = "Answers are `text/event-stream`; accept that.";
        let detail = if streams { streamed } else { Code::NotAcceptable.detail() };
        return Err(ApiError::with_detail(Code::NotAcceptable, detail).into());
    }
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    next.call(request).await
}
