//! What pages consist of: the viewer, and our own script and style.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{HttpServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, EntityTag, Header, HeaderValue, IfNoneMatch,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::middleware::{Compress, Next, from_fn};
use actix_web::web::{self, get};
use actix_web::{Error, HttpResponse};
use swagger_ui_dist::{ApiDefinition, OpenApiSource, generate_scope};

use crate::error::{ApiError, Code};

/// Where all of them lie.
pub const ROOT: &str = "/assets/docs";

/// Version of the viewer, as `Cargo.toml` asks for it.
const VIEWER: &str = "5.34.1";

const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// The files that pages name. The viewer's crate serves more: a page of its
/// own, source maps.
const FILES: [(&str, &str); 4] = [
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
    ("swagger-ui.css", "text/css; charset=utf-8"),
    ("page.js", "text/javascript; charset=utf-8"),
    ("page.css", "text/css; charset=utf-8"),
];

/// Names the contents of all assets. It is part of their addresses, so that
/// browsers may keep them for ever.
pub fn stamp() -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(SCRIPT.as_bytes()).update(STYLE.as_bytes());
    let own: String = hasher.finalize().to_hex().chars().take(8).collect();
    format!("{VIEWER}-{own}")
}

/// Serves them all.
pub fn scope() -> impl HttpServiceFactory {
    let folder = format!("/{}", stamp());
    let viewer = ApiDefinition {
        uri_prefix: folder.clone(),
        api_definition: OpenApiSource::Uri(String::new()),
        title: None,
    };
    web::scope(ROOT)
        .wrap(Compress::default())
        .wrap(from_fn(lasting))
        .route(&format!("{folder}/page.js"), get().to(async || SCRIPT))
        .route(&format!("{folder}/page.css"), get().to(async || STYLE))
        .service(generate_scope(viewer))
}

/// The middleware: lets browsers keep what they get, and through to the files
/// of [`FILES`] alone.
async fn lasting<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let name = request.path().rsplit('/').next().unwrap_or_default();
    let Some((_, media_type)) = FILES.iter().find(|(file, _)| *file == name) else {
        return Err(ApiError::new(Code::NotFound).into());
    };
    if request.method() != Method::GET {
        let refusal = HttpResponse::MethodNotAllowed().insert_header((ALLOW, "GET, HEAD")).finish();
        return Ok(request.into_response(refusal));
    }
    // Weak: the same content also goes out compressed.
    let tag = EntityTag::new_weak(stamp());
    let known = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|known| known.weak_eq(&tag)),
        Err(_) => false,
    };
    let mut response = if known {
        request.into_response(HttpResponse::NotModified().finish())
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    if response.status().is_success() || known {
        let headers = response.headers_mut();
        let lasting = "public, max-age=31536000, immutable";
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(lasting));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Ok(tag) = HeaderValue::from_str(&tag.to_string()) {
            headers.insert(ETAG, tag);
        }
    }
    Ok(response)
}
