//! What handlers return: a status, headers and a JSON body that documents
//! itself.

use std::collections::BTreeMap;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, Responder};
use apistos::paths::{MediaType, Response, Responses};
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, ApiErrorComponent, Schema};
use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::Serialize;

use crate::engine::limiter::RateState;
use crate::error::{ApiError, Code, RefusalBody, rate_headers};

/// The answers that a kind of body is sent with.
pub trait Answers {
    /// Statuses with their meaning.
    const STATUSES: &'static [(u16, &'static str)];
}

/// An answer that is no refusal.
pub struct Answer<T> {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: T,
}

impl<T> Answer<T> {
    /// `200`
    pub fn ok(body: T) -> Self {
        Self::with_status(StatusCode::OK, body)
    }

    /// `201`
    pub fn created(body: T) -> Self {
        Self::with_status(StatusCode::CREATED, body)
    }

    /// Any status.
    pub fn with_status(status: StatusCode, body: T) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Where to look next.
    #[must_use]
    pub fn location(self, place: &str) -> Self {
        self.header(LOCATION, place)
    }

    /// When to look next, in seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, &seconds.to_string())
    }

    /// The revision, for `If-Match`.
    #[must_use]
    pub fn etag(self, revision: i32) -> Self {
        self.header(ETAG, &format!("\"{revision}\""))
    }

    /// What is left of the rate limit.
    #[must_use]
    pub fn rate(mut self, rate: Option<RateState>) -> Self {
        self.headers.extend(rate.iter().flat_map(rate_headers));
        self
    }
}

impl<T: Serialize> Responder for Answer<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        for header in self.headers {
            response.insert_header(header);
        }
        if self.status == StatusCode::NO_CONTENT {
            return response.finish();
        }
        response.json(self.body)
    }
}

impl<T: JsonSchema + Answers> ApiComponent for Answer<T> {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        definitions::<T>()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        named::<T>()
    }

    fn responses(_: Option<String>) -> Option<Responses> {
        let responses = T::STATUSES.iter().map(|(status, description)| {
            let mut response =
                Response { description: (*description).to_owned(), ..Response::default() };
            if *status != 204 {
                response.content = json_content(&T::schema_name());
            }
            (status.to_string(), ReferenceOr::Object(response))
        });
        Some(Responses { responses: responses.collect(), ..Responses::default() })
    }
}

impl ApiErrorComponent for ApiError {
    fn schemas_by_status_code() -> BTreeMap<String, (String, ReferenceOr<Schema>)> {
        let schema = named::<RefusalBody>();
        statuses().filter_map(|status| Some((status, schema.clone()?))).collect()
    }

    fn error_responses() -> Vec<(String, Response)> {
        let response = |status: String| {
            let rows = Code::ALL.iter().filter(|code| code.status().as_str() == status);
            let texts = rows.map(|code| format!("`{}`: {}", code.name(), code.detail()));
            let description = texts.collect::<Vec<_>>().join(" ");
            let content = json_content(&RefusalBody::schema_name());
            (status, Response { description, content, ..Response::default() })
        };
        statuses().map(response).collect()
    }
}

fn statuses() -> impl Iterator<Item = String> {
    let mut statuses: Vec<_> = Code::ALL.iter().map(|code| code.status().as_u16()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    statuses.into_iter().map(|status| status.to_string())
}

fn json_content(schema: &str) -> BTreeMap<String, MediaType> {
    let reference = ReferenceOr::Reference { _ref: format!("#/components/schemas/{schema}") };
    let media = MediaType { schema: Some(reference), ..MediaType::default() };
    BTreeMap::from([("application/json".to_owned(), media)])
}

/// A type's schema under its name, as components of an OpenAPI document want
/// it.
pub fn named<T: JsonSchema>() -> Option<(String, ReferenceOr<Schema>)> {
    let root = generator().into_root_schema_for::<T>();
    Some((T::schema_name(), ReferenceOr::Object(Schema::Object(root.schema))))
}

/// The schemas that a type's own schema refers to; `Refusal`'s always.
pub fn definitions<T: JsonSchema>() -> Vec<(String, ReferenceOr<Schema>)> {
    let mut found = generator().into_root_schema_for::<T>().definitions;
    found.extend(generator().into_root_schema_for::<RefusalBody>().definitions);
    let mut found: Vec<_> =
        found.into_iter().map(|(name, schema)| (name, ReferenceOr::Object(schema))).collect();
    found.extend(named::<RefusalBody>());
    found
}

fn generator() -> schemars::r#gen::SchemaGenerator {
    schemars::r#gen::SchemaSettings::openapi3().into_generator()
}

/// RFC 3339 in UTC with microseconds: all that the store keeps.
pub fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}
