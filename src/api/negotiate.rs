//! What HTTP leaves to be agreed on: `HEAD`, and the form of answers.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{Accept, Header, Quality};
use actix_web::middleware::Next;

use super::docs;
use crate::error::{ApiError, Code};

/// What a family of routes answers with, and what a caller may accept so that
/// it can.
struct Spoken {
    accepted: &'static [&'static str],
    cure: &'static str,
}

const API: Spoken = Spoken {
    accepted: &["*/*", "application/*", "application/json"],
    cure: Code::NotAcceptable.detail(),
};

const PAGE: Spoken = Spoken {
    accepted: &["*/*", "text/*", "text/html"],
    cure: "This is a page: `text/html`; accept that.",
};

const ASSET: Spoken = Spoken {
    accepted: &["*/*", "text/*", "text/css", "text/javascript"],
    cure: "This is `text/css` or `text/javascript`; accept that.",
};

fn spoken(path: &str) -> &'static Spoken {
    match path {
        path if docs::is_page(path) => &PAGE,
        path if docs::is_asset(path) => &ASSET,
        _ => &API,
    }
}

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
    let spoken = spoken(request.path());
    let fits = accept.iter().any(|wanted| {
        wanted.quality > Quality::ZERO && spoken.accepted.contains(&wanted.item.essence_str())
    });
    if !accept.is_empty() && !fits {
        return Err(ApiError::with_detail(Code::NotAcceptable, spoken.cure).into());
    }
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
    next.call(request).await
}
