//! Routes work with and without the last slash.

use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Uri;
use actix_web::http::uri::PathAndQuery;
use actix_web::middleware::Next;

use super::docs;
use crate::error::{ApiError, Code};

/// Paths whose routes end with a slash; all others are left alone.
const TREES: [&str; 3] = ["/deployment/", "/unstract/", "/api/"];

/// The middleware: adds the last slash where the caller left it out. A last
/// part with a dot names a file and gets none; a page sends its reader on
/// itself.
///
/// # Errors
/// Those of the service.
pub async fn slashes<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let path = request.path();
    let last = path.rsplit('/').next().unwrap_or_default();
    let in_tree = TREES.iter().any(|tree| path.starts_with(tree));
    if in_tree && !last.is_empty() && !last.contains('.') && !docs::is_page(path) {
        let mut text = format!("{path}/");
        if let Some(query) = request.uri().query() {
            text.push('?');
            text.push_str(query);
        }
        let mut parts = request.uri().clone().into_parts();
        let refused = |_| Error::from(ApiError::new(Code::NotFound));
        parts.path_and_query = Some(PathAndQuery::try_from(text).map_err(refused)?);
        let uri = Uri::from_parts(parts).map_err(|_| Error::from(ApiError::new(Code::NotFound)))?;
        request.match_info_mut().get_mut().update(&uri);
        request.head_mut().uri = uri;
    }
    next.call(request).await
}
