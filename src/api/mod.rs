//! The HTTP face: the URL table, thin handlers, and what they share.

pub mod address;
pub mod answer;
mod audit;
pub mod auth;
mod body;
pub mod budget;
mod connections;
mod deployments;
pub mod docs;
pub mod envelope;
mod events;
mod executions;
mod health;
mod intake;
mod keys;
pub mod negotiate;
mod organisations;
mod page;
mod platform_keys;
mod query;
mod records;
mod reload;
pub mod routes;
mod schemas;
pub mod slashes;
mod unstract;
mod unstract_platform;
mod usage;
mod webhooks;
mod workflows;

use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::header::IF_MATCH;
use actix_web::{FromRequest, HttpRequest};
use apistos::info::Info;
use apistos::paths::Parameter;
use apistos::reference_or::ReferenceOr;
use apistos::spec::Spec;
use apistos::{ApiComponent, Schema};
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::config::ServerConfig;
use crate::documents::fetch::Fetcher;
use crate::engine::Engine;
use crate::engine::admission::Gauge;
use crate::engine::declared::Declarations;
use crate::error::{ApiError, ApiResult, Code};
use answer::Answers;
use budget::Budget;

/// Where the OpenAPI document of the whole server is.
pub const OPENAPI_PATH: &str = "/openapi.json";

/// What handlers share.
pub struct State {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Deployments declared in files.
    pub declarations: Arc<Declarations>,
    /// `[server]`
    pub config: ServerConfig,
    /// Hash of the operator token.
    pub operator: blake3::Hash,
    /// What request bodies may take in memory.
    pub bodies: Budget,
    /// Fetches documents that submissions name by URL.
    pub fetcher: Fetcher,
    /// Callers that follow events.
    pub event_streams: Gauge,
}

/// The head of the OpenAPI document.
pub fn spec() -> Spec {
    Spec {
        info: Info {
            title: "Millrace".into(),
            description: Some("Document workflows as APIs that people can rely on.".into()),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Info::default()
        },
        ..Spec::default()
    }
}

/// Nothing to say: the body of `204`.
#[derive(Serialize, JsonSchema)]
pub struct Nothing {}

impl Answers for Nothing {
    const STATUSES: &'static [(u16, &'static str)] = &[(204, "Done")];
}

/// `If-Match`: the revision that is to be changed, as `ETag` gave it.
pub struct IfMatch(Option<String>);

impl IfMatch {
    /// Fails if another revision is wanted than there is.
    ///
    /// # Errors
    /// `changed`.
    pub fn check(&self, revision: i32) -> ApiResult<()> {
        let current = format!("\"{revision}\"");
        match &self.0 {
            Some(wanted)
                if wanted != "*" && !wanted.split(',').any(|tag| tag.trim() == current) =>
            {
                Err(ApiError::new(Code::Changed))
            }
            _ => Ok(()),
        }
    }
}

impl FromRequest for IfMatch {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let header = request.headers().get(IF_MATCH);
        // What is no text matches no revision.
        ready(Ok(Self(header.map(|value| value.to_str().unwrap_or_default().to_owned()))))
    }
}

impl ApiComponent for IfMatch {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Vec::new()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn parameters() -> Vec<Parameter> {
        vec![Parameter {
            name: "If-Match".into(),
            _in: apistos::paths::ParameterIn::Header,
            required: Some(false),
            ..auth::path_parameter("If-Match", "The revision to change, as `ETag` gave it")
        }]
    }
}

macro_rules! path_id {
    ($(#[$doc:meta])* $name:ident, $parameter:literal, $means:literal) => {
        $(#[$doc])*
        pub struct $name(pub Uuid);

        impl FromRequest for $name {
            type Error = ApiError;
            type Future = Ready<ApiResult<Self>>;

            /// What is no id is not there.
            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                let id = request.match_info().get($parameter).and_then(|text| text.parse().ok());
                ready(id.map(Self).ok_or_else(|| ApiError::new(Code::NotFound)))
            }
        }

        impl ApiComponent for $name {
            fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
                Vec::new()
            }

            fn schema() -> Option<(String, ReferenceOr<Schema>)> {
                None
            }

            fn parameters() -> Vec<Parameter> {
                vec![auth::id_parameter($parameter, $means)]
            }
        }
    };
}

path_id!(
    /// The execution that the path names.
    ExecutionId,
    "execution_id",
    "The execution"
);
path_id!(
    /// The resource that the path names.
    ResourceId,
    "id",
    "The resource"
);
path_id!(
    /// The key that the path names.
    KeyId,
    "key_id",
    "The key"
);

/// The organisation that the path of an operator's route names.
pub struct OrganisationSlug(pub String);

impl FromRequest for OrganisationSlug {
    type Error = ApiError;
    type Future = Ready<ApiResult<Self>>;

    /// What is no slug is not there; nor can Postgres be asked for U+0000.
    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let slug = request.match_info().get("org_id").filter(|slug| organisations::is_slug(slug));
        ready(slug.map(|slug| Self(slug.to_owned())).ok_or_else(|| ApiError::new(Code::NotFound)))
    }
}

impl ApiComponent for OrganisationSlug {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Vec::new()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn parameters() -> Vec<Parameter> {
        vec![auth::path_parameter("org_id", "Slug of the organisation")]
    }
}
