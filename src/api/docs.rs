//! Documentation to read and try: one page for the whole API, one for each
//! deployment. What they show is fetched as an OpenAPI document; everything
//! they need comes from this server.

mod assets;
mod components;
mod document;
mod example;
mod operations;
mod samples;

use actix_web::body::BoxBody;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{Data, ServiceConfig, get, resource};
use actix_web::{HttpRequest, HttpResponse, Responder};
use apistos::paths::{MediaType, Response, Responses};
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, InstanceType, Schema, api_operation};
use schemars::schema::SchemaObject;
use serde_json::Value;

use super::State;
use super::answer::described;
use super::auth::Reader;
use crate::error::ApiResult;
pub use assets::stamp;
use document::Subject;

const PAGE: &str = include_str!("docs/page.html");

/// Only what this server sends, and no script or style within a page. Pictures
/// may stand in the style sheet itself.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
                      img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// What no page, and no document of a page, goes without: its address may hold
/// a key.
const PRIVATE: [(HeaderName, &str); 4] = [
    (CACHE_CONTROL, "no-store"),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (CONTENT_SECURITY_POLICY, POLICY),
];

/// Routes that are no part of the API: the page about all of it, the ways to
/// the pages, and what pages consist of.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/docs/").route(get().to(whole)))
        .service(resource(["/", "/docs", "/deployment/{api_key}/docs"]).route(get().to(onward)))
        .service(assets::scope());
}

/// Whether a path leads to a page for people. A page has relative links, so a
/// caller that leaves the last slash out is sent on.
pub fn is_page(path: &str) -> bool {
    let of_deployment = |rest: &str| {
        let (_, end) = rest.split_once('/').unwrap_or_default();
        matches!(end, "docs" | "docs/")
    };
    matches!(path, "/" | "/docs" | "/docs/")
        || path.strip_prefix("/deployment/").is_some_and(of_deployment)
}

/// Whether a path leads to something that pages consist of.
pub fn is_asset(path: &str) -> bool {
    path.starts_with(assets::ROOT)
}

/// A page around the document that lies at an address relative to it.
pub struct Page {
    /// From the page to the root of the server.
    root: &'static str,
    document: &'static str,
}

impl Responder for Page {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let assets = format!("{}{}/{}", self.root, assets::ROOT, stamp());
        let html = PAGE.replace("{assets}", &assets).replace("{document}", self.document);
        private("text/html; charset=utf-8", html)
    }
}

impl ApiComponent for Page {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Vec::new()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn responses(_: Option<String>) -> Option<Responses> {
        Some(answered("A page for browsers", "text/html", InstanceType::String))
    }
}

/// The OpenAPI document of one deployment.
pub struct Document(Value);

impl Responder for Document {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        private("application/json", self.0.to_string())
    }
}

impl ApiComponent for Document {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Vec::new()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn responses(_: Option<String>) -> Option<Responses> {
        let means = "An OpenAPI 3.1 document";
        Some(answered(means, "application/json", InstanceType::Object))
    }
}

/// `200` with a body of that type.
fn answered(description: &str, media_type: &str, body: InstanceType) -> Responses {
    let schema = SchemaObject { instance_type: Some(body.into()), ..SchemaObject::default() };
    let schema = ReferenceOr::Object(Schema::Object(schema));
    let media = MediaType { schema: Some(schema), ..MediaType::default() };
    let response = Response {
        description: description.to_owned(),
        headers: described(&[]),
        content: [(media_type.to_owned(), media)].into(),
        ..Response::default()
    };
    let responses = [("200".to_owned(), ReferenceOr::Object(response))].into();
    Responses { responses, ..Responses::default() }
}

fn private(media_type: &'static str, body: String) -> HttpResponse {
    let mut response = HttpResponse::Ok().body(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    for (name, value) in PRIVATE {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Documentation of a deployment
/// A page to read about this one deployment and to try it. It works without the internet.
#[api_operation(tag = "documentation", operation_id = "deployment_docs")]
pub async fn page(_reader: Reader) -> ApiResult<Page> {
    Ok(Page { root: "../../..", document: "openapi.json" })
}

/// OpenAPI document of a deployment
/// With its input schema, its limits and examples of its use.
#[api_operation(tag = "documentation", operation_id = "deployment_openapi")]
pub async fn openapi(
    state: Data<State>,
    reader: Reader,
    request: HttpRequest,
) -> ApiResult<Document> {
    let entry = reader.0;
    let row = state.engine.store().deployment(entry.organisation_id, entry.id).await?;
    let revision = entry.revision.load();
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let subject = Subject {
        public_id: &entry.public_id,
        name: &row.display_name,
        description: &row.description,
        revision: revision.number,
        settings: &revision.settings,
        reads_documents: revision.reads_documents(),
        public_url: state.config.public_url.trim_end_matches('/'),
        host: host.unwrap_or_default(),
    };
    Ok(Document(document::build(&subject)))
}

async fn whole() -> Page {
    Page { root: "..", document: "../openapi.json" }
}

/// On to the page, by an address that repeats nothing of this one.
async fn onward() -> HttpResponse {
    let mut response = HttpResponse::TemporaryRedirect();
    response.insert_header((LOCATION, "docs/")).insert_header((CACHE_CONTROL, "no-store"));
    response.finish()
}

#[cfg(test)]
mod tests {
    use super::{is_asset, is_page};

    #[test]
    fn pages_are_told_from_what_merely_has_docs_in_its_path() {
        for path in ["/", "/docs", "/docs/", "/deployment/dep_x/docs", "/deployment/dep_x/docs/"] {
            assert!(is_page(path), "{path}");
        }
        for path in [
            "/deployment/docs/",
            "/deployment/api/acme/docs/",
            "/deployment/dep_x/docs/openapi.json",
            "/deployment/dep_x/result/docs/",
            "/unstract/docs",
        ] {
            assert!(!is_page(path) && !is_asset(path), "{path}");
        }
        assert!(is_asset("/assets/docs/x/page.js"));
    }
}
