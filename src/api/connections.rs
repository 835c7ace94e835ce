//! Connections of an organisation. Their secrets are taken and never given
//! back.

#![expect(unused_qualifications, reason = "`JsonSchema` derives them for tagged forms")]

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::api_operation;
use millrace_entities::connection;
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Answers, time};
use super::auth::OrganisationManager;
use super::body::{Body, Text, misplaced, typed};
use super::page::{Listing, Paging};
use super::schemas::MergePatch;
use super::{IfMatch, Nothing, ResourceId, State};
use crate::connections::form::{self, FormError, HttpForm, LlmForm, ObjectStoreForm, SqlForm};
use crate::connections::probe::Trial;
use crate::connections::{Kind, declared_id, local};
use crate::engine::connections::{ConnectionDraft, sealed, shown};
use crate::engine::directory::Manager;
use crate::engine::manage::ManageError;
use crate::error::{ApiError, ApiResult, Code};
use crate::llm::provider::JsonMode;
use crate::store::page::Paged;

/// What connections of all kinds have.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Identity {
    /// The name that steps give: `^[A-Za-z0-9_-]{1,64}$`, unique in the organisation.
    name: String,
    /// Text for people.
    #[serde(default)]
    description: Text,
    /// What kind of system it leads to; it cannot change.
    kind: Kind,
}

/// The fields of [`Identity`]; all others are the kind's.
const IDENTITY: [&str; 3] = ["name", "description", "kind"];

/// A connection as it is written: the fields of its kind beside those of all.
#[derive(JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schemars(rename = "ConnectionWrite")]
#[expect(dead_code, reason = "documents `ConnectionObject`")]
enum ConnectionForm {
    /// A database.
    Sql(Written<SqlForm>),
    /// An object store.
    ObjectStore(Written<ObjectStoreForm>),
    /// A service that speaks HTTP.
    Http(Written<HttpForm>),
    /// A language model.
    Llm(Written<LlmForm>),
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "documents `ConnectionObject`")]
struct Written<F> {
    /// The name that steps give, unique in the organisation.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    name: String,
    /// Text for people.
    #[serde(default)]
    description: Text,
    #[serde(flatten)]
    settings: F,
}

/// A connection as it is written, its fields not sorted out yet.
#[derive(Deserialize)]
pub struct ConnectionObject(Map<String, Value>);

impl JsonSchema for ConnectionObject {
    fn schema_name() -> String {
        ConnectionForm::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ConnectionForm::json_schema(generator).into_object();
        let kinds = schema.subschemas().one_of.iter_mut().flatten();
        for kind in kinds {
            // Flattening forgets that other fields are refused.
            if let Schema::Object(kind) = kind {
                kind.object().additional_properties = Some(Box::new(Schema::Bool(false)));
            }
        }
        schema.into()
    }
}

/// Who made a connection.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ConnectionSource")]
enum Source {
    /// The organisation.
    Api,
    /// The server's configuration, which alone can change it.
    Config,
}

/// What may be shown of the settings of all kinds.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Shown {
    /// `sql`: scheme, host and database of its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    /// `object_store`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<String>,
    /// `object_store`: the options that are no secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    options: Option<Map<String, Value>>,
    /// `http`, `llm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_url: Option<String>,
    /// `llm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    /// `llm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    /// `llm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_price: Option<f64>,
    /// `llm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output_price: Option<f64>,
    /// `llm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    /// `llm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    context_tokens: Option<u32>,
    /// `llm`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json_mode: Option<JsonMode>,
}

/// A connection without its secrets.
#[derive(Serialize, JsonSchema)]
pub struct ConnectionAnswer {
    id: String,
    name: String,
    description: String,
    kind: Kind,
    source: Source,
    #[serde(flatten)]
    settings: Shown,
    /// Places of the secrets that it has, such as `url`, `headers.Authorization` or `signing_secrets.0`; they can be set anew, and not be read.
    secrets: Vec<String>,
    /// Counts its changes, from 1; null for one of the configuration.
    revision: Option<i32>,
    created_at: Option<String>,
    updated_at: Option<String>,
}

impl Answers for ConnectionAnswer {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(200, "The connection, without its secrets"), (201, "Made")];
}

impl ConnectionAnswer {
    fn of(row: &connection::Model) -> ApiResult<Self> {
        let internal = || ApiError::new(Code::Internal);
        let settings = serde_json::from_value(Value::Object(shown(row)));
        Ok(Self {
            id: row.id.to_string(),
            name: row.name.clone(),
            description: row.description.clone(),
            kind: Kind::parse(&row.kind).ok_or_else(internal)?,
            source: Source::Api,
            settings: settings.map_err(|_| internal())?,
            secrets: sealed(row).into_keys().collect(),
            revision: Some(row.revision),
            created_at: Some(time(row.created_at)),
            updated_at: Some(time(row.updated_at)),
        })
    }

    /// Where it leads is the operator's alone to know.
    fn declared(org_id: &str, name: String, kind: Kind) -> Self {
        Self {
            id: declared_id(org_id, &name).to_string(),
            name,
            description: String::new(),
            kind,
            source: Source::Config,
            settings: Shown::default(),
            secrets: Vec::new(),
            revision: None,
            created_at: None,
            updated_at: None,
        }
    }
}

/// What a trial of a connection has shown.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ConnectionTrialStatus")]
enum TrialStatus {
    /// It answers.
    Ok,
    /// It cannot be used.
    Failed,
    /// Connections of this kind cannot be tried.
    Untried,
}

/// What a trial of a connection has shown.
#[derive(Serialize, JsonSchema)]
pub struct TrialAnswer {
    status: TrialStatus,
    /// Why it failed.
    detail: Option<String>,
}

impl Answers for TrialAnswer {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "It was tried; see `status`")];
}

fn answer(status: StatusCode, row: &connection::Model) -> ApiResult<Answer<ConnectionAnswer>> {
    Ok(Answer::with_status(status, ConnectionAnswer::of(row)?).etag(row.revision))
}

/// Create a connection
/// Its secrets are sealed and never shown. Steps can use it when the answer is there.
#[api_operation(tag = "connections", operation_id = "create_connection")]
pub async fn create(
    state: Data<State>,
    manager: OrganisationManager,
    body: Body<ConnectionObject>,
) -> ApiResult<Answer<ConnectionAnswer>> {
    let draft = draft(&state, &manager.0, body.0.0)?;
    let row = state.engine.create_connection(manager.author(), &manager.0, draft).await?;
    answer(StatusCode::CREATED, &row)
}

/// List connections
/// First those that the server's configuration declares.
#[api_operation(tag = "connections", operation_id = "list_connections")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    paging: Paging,
) -> ApiResult<Answer<Listing<ConnectionAnswer>>> {
    let org_id = &manager.0.org_id;
    let connections = &state.engine.context().services.connections;
    let declared: Vec<_> = connections
        .declared(org_id)
        .map(|(name, one)| ConnectionAnswer::declared(org_id, name.to_owned(), one.kind()))
        .collect();
    let (count, size) = (declared.len() as u64, paging.page.size);
    let start = paging.page.index.saturating_mul(size);
    let skip = usize::try_from(start).unwrap_or(usize::MAX);
    let mut rows: Vec<_> =
        declared.into_iter().skip(skip).take(usize::try_from(size).unwrap_or(usize::MAX)).collect();
    let left = size - rows.len() as u64;
    let owner = manager.0.organisation_id;
    let stored = state.engine.store().connections(owner, start.saturating_sub(count), left).await?;
    for row in &stored.rows {
        rows.push(ConnectionAnswer::of(row)?);
    }
    let found = Paged { total: count + stored.total, rows };
    Ok(Answer::ok(Listing::new(&paging, found, |row| row)))
}

/// Get a connection
/// Never its secrets.
#[api_operation(tag = "connections", operation_id = "get_connection")]
pub async fn get(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<ConnectionAnswer>> {
    if let Some((name, kind)) = state.engine.declared_connection(&manager.0, id.0) {
        return Ok(Answer::ok(ConnectionAnswer::declared(&manager.0.org_id, name, kind)));
    }
    let row = state.engine.store().connection(manager.0.organisation_id, id.0).await?;
    answer(StatusCode::OK, &row)
}

/// Replace a connection
/// Its secrets must be given again. It holds for the next step.
#[api_operation(tag = "connections", operation_id = "replace_connection")]
pub async fn replace(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    if_match: IfMatch,
    body: Body<ConnectionObject>,
) -> ApiResult<Answer<ConnectionAnswer>> {
    let current = state.engine.stored_connection(&manager.0, id.0).await?;
    if_match.check(current.revision)?;
    change(&state, &manager, current, body.0.0).await
}

/// Change a connection
/// A JSON merge patch (RFC 7396) of its fields; secrets that it leaves out stay as they are. It holds for the next step.
#[api_operation(tag = "connections", operation_id = "change_connection")]
pub async fn patch(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    if_match: IfMatch,
    body: Body<MergePatch<ConnectionObject>>,
) -> ApiResult<Answer<ConnectionAnswer>> {
    let current = state.engine.stored_connection(&manager.0, id.0).await?;
    if_match.check(current.revision)?;
    let settings = state.engine.connection_settings(&current).map_err(ManageError::from)?;
    let mut whole = settings;
    let identity: Map<_, _> = typed(json!({
        "name": current.name,
        "description": current.description,
        "kind": current.kind,
    }))?;
    whole.extend(identity);
    change(&state, &manager, current, body.0.apply(whole)).await
}

/// Delete a connection
/// Only if neither a workflow nor a webhook names it.
#[api_operation(tag = "connections", operation_id = "delete_connection")]
pub async fn delete(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<Nothing>> {
    state.engine.delete_connection(manager.author(), &manager.0, id.0).await?;
    Ok(Answer::with_status(StatusCode::NO_CONTENT, Nothing {}))
}

/// Try a connection
/// Connects within ten seconds and changes nothing there. Kinds that cannot be tried say so.
#[api_operation(tag = "connections", operation_id = "test_connection")]
pub async fn test(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<TrialAnswer>> {
    let (status, detail) = match state.engine.try_connection(&manager.0, id.0).await? {
        Trial::Works => (TrialStatus::Ok, None),
        Trial::Fails(why) => (TrialStatus::Failed, Some(why.to_owned())),
        Trial::Untried => (TrialStatus::Untried, None),
    };
    Ok(Answer::ok(TrialAnswer { status, detail }))
}

async fn change(
    state: &State,
    manager: &OrganisationManager,
    current: connection::Model,
    object: Map<String, Value>,
) -> ApiResult<Answer<ConnectionAnswer>> {
    let draft = draft(state, &manager.0, object)?;
    if draft.kind.name() != current.kind {
        let detail = "the kind of a connection cannot change; make a new connection";
        return Err(ApiError::at(Code::InvalidValue, "kind", detail));
    }
    let author = manager.author();
    let row = state.engine.replace_connection(author, &manager.0, current, draft).await?;
    answer(StatusCode::OK, &row)
}

/// What is to be, checked; a fault names its place and no value.
fn draft(state: &State, owner: &Manager, object: Map<String, Value>) -> ApiResult<ConnectionDraft> {
    let (identity, settings): (Map<_, _>, Map<_, _>) =
        object.into_iter().partition(|(name, _)| IDENTITY.contains(&name.as_str()));
    let Identity { name, description, kind } = typed(Value::Object(identity))?;
    let mut faults = form::Faults::new();
    if !is_name(&name) {
        faults.push(("name".into(), "letters, digits, _ and -, 1 to 64".into()));
    }
    match form::read(kind, settings.clone()) {
        Ok(connection) => {
            let folders = state.engine.context().services.connections.local_folders();
            faults.extend(local::faults(&connection, &owner.org_id, folders));
        }
        Err(FormError::Misplaced(error)) => return Err(misplaced(&error)),
        Err(FormError::Faults(found)) => faults.extend(found),
    }
    if faults.is_empty() {
        return Ok(ConnectionDraft { name, description: description.into(), kind, settings });
    }
    let faults = faults.into_iter().map(|(place, cure)| (Some(place), cure));
    Err(ApiError::all(Code::InvalidValue, faults))
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}
