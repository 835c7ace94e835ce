//! Who calls: extractors that hand over what is authenticated and in scope.

use std::collections::BTreeMap;
use std::future::{Ready, ready};
use std::sync::Arc;

use actix_web::dev::Payload;
use actix_web::http::Method;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage, HttpRequest};
use apistos::paths::{Parameter, ParameterDefinition, ParameterIn};
use apistos::reference_or::ReferenceOr;
use apistos::security::{Http, SecurityScheme, SecurityType};
use apistos::{ApiComponent, InstanceType, Schema};
use millrace_entities::enums::Tier;
use schemars::schema::SchemaObject;
use secrecy::SecretString;
use uuid::Uuid;

use super::State;
use super::address::client_address;
use super::envelope::{Counted, RequestId};
use crate::engine::audit::{Author, AuthorKind};
use crate::engine::directory::{self, Entry, Manager};
use crate::error::{ApiError, Code};
use crate::ids::{self, Key, KeyKind};
use crate::usage::Subject;

fn unauthorized() -> ApiError {
    ApiError::new(Code::Unauthorized)
}

fn bearer(request: &HttpRequest) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = header.split_once(' ')?;
    // RFC 9110 section 11.1: the scheme is case-insensitive.
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn state(request: &HttpRequest) -> Result<&Data<State>, ApiError> {
    request.app_data::<Data<State>>().ok_or_else(|| ApiError::new(Code::Internal))
}

fn part<'a>(request: &'a HttpRequest, name: &str) -> &'a str {
    request.match_info().get(name).unwrap_or_default()
}

fn author(request: &HttpRequest, kind: AuthorKind, key_id: Option<Uuid>, name: &str) -> Author {
    let trusted =
        state(request).map(|state| state.config.trusted_proxies.as_slice()).unwrap_or_default();
    Author {
        kind,
        key_id,
        name: name.to_owned(),
        address: client_address(request, trusted),
        request_id: request.extensions().get::<RequestId>().map(|id| id.0.clone()),
    }
}

fn caller(request: &HttpRequest) -> Result<(Key, directory::Caller), ApiError> {
    let key = bearer(request).and_then(Key::parse).ok_or_else(unauthorized)?;
    let caller = state(request)?.engine.caller(&key).ok_or_else(unauthorized)?;
    check_address(request, &caller.entry)?;
    Ok((key, caller))
}

/// Fails if the deployment may not be called from where the request comes.
/// Who has no key of the deployment must not get here: the answer tells that
/// there is one.
///
/// # Errors
/// `address_not_allowed`.
pub fn check_address(request: &HttpRequest, entry: &Entry) -> Result<(), ApiError> {
    let revision = entry.revision.load();
    let allowed = &revision.settings.ip_allowlist;
    if allowed.is_empty() {
        return Ok(());
    }
    let client = client_address(request, &state(request)?.config.trusted_proxies);
    match client.is_some_and(|client| allowed.iter().any(|block| block.contains(client))) {
        true => Ok(()),
        false => Err(ApiError::new(Code::AddressNotAllowed)),
    }
}

/// The bearer of a deployment key, on the product's routes. The path names
/// the deployment by that same key or by its public id.
pub struct Caller(pub directory::Caller);

impl Caller {
    fn from(request: &HttpRequest) -> Result<Self, ApiError> {
        let (key, caller) = caller(request)?;
        let named = part(request, "api_key");
        if named == caller.entry.public_id {
            return Ok(Self(known(request, caller)));
        }
        match Key::parse(named) {
            Some(in_path) if in_path.hash() == key.hash() => Ok(Self(known(request, caller))),
            Some(_) => Err(unauthorized()),
            None => Err(ApiError::new(Code::NotFound)),
        }
    }
}

/// The bearer of a deployment key, on Unstract's routes. The path names the
/// deployment by organisation and name.
pub struct UnstractCaller(pub directory::Caller);

impl UnstractCaller {
    fn from(request: &HttpRequest) -> Result<Self, ApiError> {
        let (_, caller) = caller(request)?;
        let right = part(request, "org_id") == caller.entry.org_id
            && part(request, "api_name") == caller.entry.api_name.load().as_str();
        if right { Ok(Self(known(request, caller))) } else { Err(ApiError::new(Code::NotFound)) }
    }
}

/// Tells the envelope whose request this is: it counts its answer.
fn known(request: &HttpRequest, caller: directory::Caller) -> directory::Caller {
    if let Some(counted) = request.extensions().get::<Counted>() {
        counted.set(Some(Subject::new(caller.entry.id, Some(caller.key_id))));
    }
    caller
}

/// The bearer of a platform key, whatever its tier. The key alone says which
/// organisation is meant.
pub struct PlatformCaller(pub Manager);

impl PlatformCaller {
    fn from(request: &HttpRequest) -> Result<Self, ApiError> {
        let key = bearer(request).and_then(Key::parse).ok_or_else(unauthorized)?;
        if key.kind() != KeyKind::Platform {
            return Err(unauthorized());
        }
        state(request)?.engine.manager(&key).map(Self).ok_or_else(unauthorized)
    }
}

/// The bearer of a platform key, in its own organisation, whose tier allows
/// the method.
pub struct OrganisationManager(pub Manager, Author);

impl OrganisationManager {
    fn from(request: &HttpRequest) -> Result<Self, ApiError> {
        let PlatformCaller(manager) = PlatformCaller::from(request)?;
        if part(request, "org_id") != manager.org_id {
            return Err(ApiError::new(Code::NotFound));
        }
        if manager.tier < tier_for(request.method()) {
            return Err(ApiError::new(Code::Forbidden));
        }
        let author = author(request, AuthorKind::PlatformKey, Some(manager.key_id), &manager.name);
        Ok(Self(manager, author))
    }

    /// Who makes the changes of this request.
    pub fn author(&self) -> &Author {
        &self.1
    }

    /// The organisation that is managed.
    pub fn organisation_id(&self) -> Uuid {
        self.0.organisation_id
    }
}

/// The bearer of a platform key of tier `full_access`, whatever the method:
/// who makes or changes keys. Known before the body is read.
pub struct FullManager(OrganisationManager);

impl FullManager {
    fn from(request: &HttpRequest) -> Result<Self, ApiError> {
        let manager = OrganisationManager::from(request)?;
        if manager.0.tier < Tier::FullAccess {
            return Err(ApiError::new(Code::Forbidden));
        }
        Ok(Self(manager))
    }

    /// Who makes the changes of this request.
    pub fn author(&self) -> &Author {
        self.0.author()
    }

    /// The organisation that is managed.
    pub fn organisation_id(&self) -> Uuid {
        self.0.organisation_id()
    }
}

fn tier_for(method: &Method) -> Tier {
    match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Tier::Read,
        Method::DELETE => Tier::FullAccess,
        _ => Tier::ReadWrite,
    }
}

/// The bearer of the operator token.
pub struct Operator(Author);

impl Operator {
    fn from(request: &HttpRequest) -> Result<Self, ApiError> {
        let token = bearer(request).ok_or_else(unauthorized)?;
        // blake3's own comparison takes the same time for all inputs.
        let right = blake3::hash(token.as_bytes()) == state(request)?.operator;
        if !right {
            return Err(unauthorized());
        }
        Ok(Self(author(request, AuthorKind::Operator, None, "operator")))
    }

    /// Who makes the changes of this request.
    pub fn author(&self) -> &Author {
        &self.0
    }
}

/// The hash by which the operator token is known.
pub fn operator_hash(token: &SecretString) -> blake3::Hash {
    use secrecy::ExposeSecret;
    blake3::hash(token.expose_secret().as_bytes())
}

/// Who may read a deployment's documentation: whoever has its key in the path,
/// or its public id where that suffices or beside the bearer key.
pub struct Reader(pub Arc<Entry>);

impl Reader {
    fn from(request: &HttpRequest) -> Result<Self, ApiError> {
        let engine = &state(request)?.engine;
        let named = part(request, "api_key");
        if !ids::is_public_id(named) {
            let known = Key::parse(named).and_then(|key| engine.caller(&key));
            let entry = known.ok_or_else(unauthorized)?.entry;
            check_address(request, &entry)?;
            return Ok(Self(entry));
        }
        let public = |entry: &Arc<Entry>| entry.revision.load().settings.public_docs;
        if let Some(entry) = engine.deployment_named(named).filter(public) {
            return Ok(Self(entry));
        }
        // What is not there and what is not public must not be told apart.
        if !request.headers().contains_key(AUTHORIZATION) {
            return Err(ApiError::new(Code::NotFound));
        }
        Caller::from(request).map(|caller| Self(caller.0.entry))
    }
}

impl FromRequest for Reader {
    type Error = ApiError;
    type Future = Ready<Result<Self, ApiError>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::from(request))
    }
}

impl ApiComponent for Reader {
    fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
        Vec::new()
    }

    fn schema() -> Option<(String, ReferenceOr<Schema>)> {
        None
    }

    fn parameters() -> Vec<Parameter> {
        let means = "A key of the deployment; or its public id (`dep_…`), if it sets `public_docs` \
                     or the key is sent as bearer";
        vec![path_parameter("api_key", means)]
    }
}

macro_rules! extractor {
    ($name:ident, $scheme:literal, $text:literal, [$(($parameter:literal, $means:literal)),*]) => {
        impl FromRequest for $name {
            type Error = ApiError;
            type Future = Ready<Result<Self, ApiError>>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                ready(Self::from(request))
            }
        }

        impl ApiComponent for $name {
            fn child_schemas() -> Vec<(String, ReferenceOr<Schema>)> {
                Vec::new()
            }

            fn schema() -> Option<(String, ReferenceOr<Schema>)> {
                None
            }

            fn securities() -> BTreeMap<String, SecurityScheme> {
                let scheme = SecurityScheme {
                    _type: SecurityType::Http(Http {
                        scheme: "bearer".into(),
                        bearer_format: None,
                    }),
                    description: Some($text.into()),
                    extensions: apistos::IndexMap::default(),
                };
                BTreeMap::from([($scheme.to_owned(), scheme)])
            }

            fn security_requirement_name() -> Option<String> {
                Some($scheme.to_owned())
            }

            fn parameters() -> Vec<Parameter> {
                vec![$(path_parameter($parameter, $means)),*]
            }
        }
    };
}

extractor!(
    Caller,
    "deployment_key",
    "A deployment's key, `unst_…`",
    [("api_key", "Public id of the deployment (`dep_…`), or the bearer's own key")]
);
extractor!(
    UnstractCaller,
    "deployment_key",
    "A deployment's key, `unst_…`",
    [("org_id", "Slug of the organisation"), ("api_name", "Name of the deployment")]
);
extractor!(PlatformCaller, "platform_key", "An organisation's platform key, `unstp_…`", []);
extractor!(
    OrganisationManager,
    "platform_key",
    "An organisation's platform key, `unstp_…`",
    [("org_id", "Slug of the organisation")]
);
extractor!(
    FullManager,
    "platform_key",
    "An organisation's platform key, `unstp_…`",
    [("org_id", "Slug of the organisation")]
);
extractor!(Operator, "operator_token", "The server's operator token", []);

/// A path parameter of type string.
pub fn path_parameter(name: &str, description: &str) -> Parameter {
    parameter(name, description, None)
}

/// A path parameter that is a UUID.
pub fn id_parameter(name: &str, description: &str) -> Parameter {
    parameter(name, description, Some("uuid"))
}

fn parameter(name: &str, description: &str, format: Option<&str>) -> Parameter {
    let schema = SchemaObject {
        instance_type: Some(InstanceType::String.into()),
        format: format.map(ToOwned::to_owned),
        ..SchemaObject::default()
    };
    Parameter {
        name: name.to_owned(),
        _in: ParameterIn::Path,
        description: Some(description.to_owned()),
        required: Some(true),
        definition: Some(ParameterDefinition::Schema(Box::new(ReferenceOr::Object(
            Schema::Object(schema),
        )))),
        ..Parameter::default()
    }
}
