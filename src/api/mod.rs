//! The HTTP face: the URL table, thin handlers, and what they share.

mod address;
pub mod answer;
pub mod auth;
mod body;
mod connections;
mod deployments;
pub mod envelope;
mod executions;
mod health;
mod intake;
mod keys;
pub mod negotiate;
mod organisations;
mod page;
mod query;
pub mod slashes;
mod unstract;
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
use apistos::web::{Scope, ServiceConfig, delete, get, patch, post, put, resource, scope};
use apistos::{ApiComponent, Schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::config::ServerConfig;
use crate::engine::Engine;
use crate::error::{ApiError, ApiResult, Code};
use answer::Answers;

/// Where the OpenAPI document of the whole server is.
pub const OPENAPI_PATH: &str = "/openapi.json";

/// What handlers share.
pub struct State {
    /// The engine.
    pub engine: Arc<Engine>,
    /// `[server]`
    pub config: ServerConfig,
    /// Hash of the operator token.
    pub operator: blake3::Hash,
}

/// The URL table. Resources, not single routes: a resource answers a wrong
/// method with 405 and `Allow`.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/health/live").route(get().to(health::live)))
        .service(resource("/health/ready").route(get().to(health::ready)))
        .service(
            resource("/deployment/api/{org_id}/{api_name}/")
                .route(post().to(unstract::submit))
                .route(get().to(unstract::status)),
        )
        .service(resource("/deployment/{api_key}/").route(post().to(executions::submit)))
        .service(
            resource("/deployment/{api_key}/status/{execution_id}/")
                .route(get().to(executions::status)),
        )
        .service(
            resource("/deployment/{api_key}/result/{execution_id}/")
                .route(get().to(executions::result)),
        )
        .service(
            resource("/deployment/{api_key}/cancel/{execution_id}/")
                .route(post().to(executions::cancel)),
        )
        .service(
            resource("/api/v1/admin/organization/")
                .route(post().to(organisations::create))
                .route(get().to(organisations::list)),
        )
        .service(management());
}

fn management() -> Scope {
    scope("/unstract/{org_id}/api/v2")
        .service(
            resource("/workflow/")
                .route(post().to(workflows::create))
                .route(get().to(workflows::list)),
        )
        .service(
            resource("/workflow/{id}/")
                .route(get().to(workflows::get))
                .route(put().to(workflows::replace))
                .route(patch().to(workflows::patch))
                .route(delete().to(workflows::delete)),
        )
        .service(resource("/workflow/{id}/validate/").route(post().to(workflows::validate)))
        .service(
            resource("/api-deployment/")
                .route(post().to(deployments::create))
                .route(get().to(deployments::list)),
        )
        .service(
            resource("/api-deployment/{id}/")
                .route(get().to(deployments::get))
                .route(put().to(deployments::replace))
                .route(patch().to(deployments::patch))
                .route(delete().to(deployments::delete)),
        )
        .service(
            resource("/api-deployment/{id}/key/")
                .route(post().to(keys::create))
                .route(get().to(keys::list)),
        )
        .service(
            resource("/api-deployment/{id}/key/{key_id}/")
                .route(get().to(keys::get))
                .route(delete().to(keys::revoke)),
        )
        .service(
            resource("/connection/")
                .route(post().to(connections::create))
                .route(get().to(connections::list)),
        )
        .service(
            resource("/connection/{id}/")
                .route(get().to(connections::get))
                .route(put().to(connections::replace))
                .route(patch().to(connections::patch))
                .route(delete().to(connections::delete)),
        )
        .service(resource("/connection/{id}/test/").route(post().to(connections::test)))
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

/// A JSON merge patch (RFC 7396): the fields to change; null takes a field's
/// default back.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct MergePatch(Map<String, Value>);

impl From<MergePatch> for Value {
    fn from(patch: MergePatch) -> Self {
        Self::Object(patch.0)
    }
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
                vec![auth::path_parameter($parameter, $means)]
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
