//! What handlers return: a status, headers and a JSON body that documents
//! itself.

use std::collections::BTreeMap;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use actix_web::{HttpRequest, HttpResponse, Responder};
use apistos::paths::{Header, MediaType, ParameterDefinition, Response, Responses};
use apistos::reference_or::ReferenceOr;
use apistos::{ApiComponent, ApiErrorComponent, InstanceType, Schema};
use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use schemars::schema::{SchemaObject, SubschemaValidation};
use serde::Serialize;

use crate::engine::limiter::RateState;
use crate::error::{ApiError, ApiResult, Code, RefusalBody, rate_headers, replay_header};

/// A header of an answer, for the document.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the table's text says what each means")]
pub enum Field {
    Allow,
    Authenticate,
    Etag,
    IdempotentReplayed,
    Location,
    RateLimit,
    RateRemaining,
    RateReset,
    RequestId,
    RetryAfter,
}

impl Field {
    /// Name, meaning and type.
    const fn row(self) -> (&'static str, &'static str, InstanceType) {
        use InstanceType::{Boolean, Integer, String};
        match self {
            Self::Allow => ("Allow", "Methods that are allowed here", String),
            Self::Authenticate => ("WWW-Authenticate", "What would open: `Bearer`", String),
            Self::Etag => ("ETag", "The revision, for `If-Match`", String),
            Self::IdempotentReplayed => {
                let text = "`true` where the submission had been accepted before under its key";
                ("Idempotent-Replayed", text, Boolean)
            }
            Self::Location => ("Location", "Where to look next", String),
            Self::RateLimit => ("RateLimit-Limit", "Requests that may come at once", Integer),
            Self::RateRemaining => ("RateLimit-Remaining", "How many of them are left", Integer),
            Self::RateReset => ("RateLimit-Reset", "Seconds until all are back", Integer),
            Self::RequestId => ("X-Request-Id", "The caller's own id, or a new one", String),
            Self::RetryAfter => ("Retry-After", "Seconds to wait before the next try", Integer),
        }
    }
}

/// The answers that a kind of body is sent with.
pub trait Answers {
    /// Statuses with their meaning.
    const STATUSES: &'static [(u16, &'static str)];

    /// Headers that some of them bring besides `X-Request-Id`.
    const HEADERS: &'static [Field] = &[];
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

    /// Whether the submission had been accepted before.
    #[must_use]
    pub fn replayed(mut self, is_replay: bool) -> Self {
        self.headers.extend(replay_header(is_replay));
        self
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
            let description = (*description).to_owned();
            let headers = described(T::HEADERS);
            let mut response = Response { description, headers, ..Response::default() };
            if *status != 204 {
                response.content = json_content(&T::schema_name());
            }
            (status.to_string(), ReferenceOr::Object(response))
        });
        Some(Responses { responses: responses.collect(), ..Responses::default() })
    }
}

/// What a handler returns some of whose answers share a status with a refusal:
/// there the document allows both bodies.
pub struct Reply<T>(pub ApiResult<Answer<T>>);

impl<T: Serialize> Responder for Reply<T> {
    type Body = BoxBody;

    fn respond_to(self, request: &HttpRequest) -> HttpResponse {
        self.0.respond_to(request).map_into_boxed_body()
    }
}

impl<T: JsonSchema + Answers> ApiComponent for Reply<T> {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Answer::<T>::child_schemas()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        Answer::<T>::schema()
    }

    fn responses(content_type: Option<String>) -> Option<Responses> {
        Answer::<T>::responses(content_type)
    }

    fn error_responses() -> Vec<(String, Response)> {
        let mut refusals = <ApiError as ApiErrorComponent>::error_responses();
        for (status, refusal) in &mut refusals {
            for (shared, meaning) in T::STATUSES {
                if status.parse() == Ok(*shared) {
                    refusal.description = format!("{meaning}. Or {}", refusal.description);
                    refusal.headers.extend(described(T::HEADERS));
                    refusal.content = either(&[T::schema_name(), RefusalBody::schema_name()]);
                }
            }
        }
        refusals
    }

    fn error_schemas() -> BTreeMap<String, (String, ReferenceOr<Schema>)> {
        ApiError::schemas_by_status_code()
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
            let headers = described(match status.as_str() {
                "401" => &[Field::Authenticate],
                "405" => &[Field::Allow],
                "409" | "422" => &[Field::Location, Field::IdempotentReplayed],
                "429" => {
                    &[Field::RetryAfter, Field::RateLimit, Field::RateRemaining, Field::RateReset]
                }
                "503" => &[Field::RetryAfter],
                _ => &[],
            });
            (status, Response { description, headers, content, ..Response::default() })
        };
        statuses().map(response).collect()
    }
}

/// Headers of an answer as the document describes them. `X-Request-Id` is in
/// every one.
pub(super) fn described(fields: &[Field]) -> BTreeMap<String, ReferenceOr<Header>> {
    let describe = |field: &Field| {
        let (name, description, kind) = field.row();
        let schema = SchemaObject { instance_type: Some(kind.into()), ..SchemaObject::default() };
        let schema = Box::new(ReferenceOr::Object(Schema::Object(schema)));
        let header = Header {
            description: Some(description.to_owned()),
            definition: Some(ParameterDefinition::Schema(schema)),
            ..Header::default()
        };
        (name.to_owned(), ReferenceOr::Object(header))
    };
    [Field::RequestId].iter().chain(fields).map(describe).collect()
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

/// JSON of one of several schemas.
fn either(schemas: &[String]) -> BTreeMap<String, MediaType> {
    let reference = |name| Schema::new_ref(format!("#/components/schemas/{name}"));
    let subschemas = SubschemaValidation {
        any_of: Some(schemas.iter().map(reference).collect()),
        ..SubschemaValidation::default()
    };
    let schema = SchemaObject { subschemas: Some(subschemas.into()), ..SchemaObject::default() };
    let schema = Some(ReferenceOr::Object(Schema::Object(schema)));
    BTreeMap::from([("application/json".to_owned(), MediaType { schema, ..MediaType::default() })])
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
