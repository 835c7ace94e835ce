//! Deployments of an organisation.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::api_operation;
use millrace_entities::deployment;
use millrace_entities::enums::WorkflowKind;
use schemars::JsonSchema;
use sea_orm::ActiveEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::answer::{Answer, Answers, Field, time};
use super::auth::OrganisationManager;
use super::body::{Body, Text, off_thread, typed};
use super::page::{Listing, Paging};
use super::schemas::{Id, MergePatch, Object, drop_read_only};
use super::workflows::Kind;
use super::{IfMatch, Nothing, ResourceId, State};
use crate::engine::Engine;
use crate::engine::directory::Manager;
use crate::engine::manage::DeploymentDraft;
use crate::engine::settings::Settings;
use crate::engine::sources;
use crate::engine::webhooks;
use crate::error::{ApiError, ApiResult, Code};
use crate::form::{API_NAME, is_api_name};
use crate::store::StoreError;

/// What a deployment has besides its settings.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// Name in URLs, `^[A-Za-z0-9_-]{1,64}$`, unique in the organisation.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    pub api_name: String,
    /// Id of the workflow it serves.
    #[schemars(with = "Id")]
    pub workflow: String,
    /// Name for people; the `api_name` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display_name: Option<Text>,
    /// Text for people.
    #[serde(default)]
    pub description: Text,
    /// `ETL` or `TASK`; must match the workflow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployment_type: Option<Kind>,
    /// Whether it takes submissions.
    #[serde(default = "yes")]
    pub is_active: bool,
}

/// The fields of [`Identity`]; all others are settings.
const IDENTITY: [&str; 6] =
    ["api_name", "workflow", "display_name", "description", "deployment_type", "is_active"];

/// What only the server writes.
const READ_ONLY: [&str; 7] =
    ["id", "public_id", "revision", "api_endpoint", "declared_in", "created_at", "updated_at"];

fn yes() -> bool {
    true
}

/// A deployment as it is written: the fields of both, side by side.
#[derive(JsonSchema)]
#[schemars(rename = "DeploymentWrite", deny_unknown_fields)]
#[expect(dead_code, reason = "documents `DeploymentWrite`")]
pub struct DeploymentForm {
    #[serde(flatten)]
    identity: Identity,
    #[serde(flatten)]
    settings: Settings,
}

/// A deployment whose fields are of the right form.
#[derive(Debug, Clone)]
pub struct DeploymentWrite {
    /// What it has besides its settings.
    pub identity: Identity,
    /// Limits and times.
    pub settings: Settings,
}

impl DeploymentWrite {
    /// Sorts the fields out; a fault names its place. It compiles the input
    /// schema: not for an asynchronous thread.
    ///
    /// # Errors
    /// `invalid_value`.
    pub fn parse(object: Map<String, Value>) -> ApiResult<Self> {
        let (identity, settings): (Map<_, _>, Map<_, _>) =
            object.into_iter().partition(|(name, _)| IDENTITY.contains(&name.as_str()));
        let write = Self {
            identity: typed(Value::Object(identity))?,
            settings: typed(Value::Object(settings))?,
        };
        let mut faults = write.settings.faults();
        if !is_api_name(&write.identity.api_name) {
            faults.push(("api_name".into(), API_NAME.into()));
        }
        if faults.is_empty() {
            return Ok(write);
        }
        let faults = faults.into_iter().map(|(place, cure)| (Some(place), cure));
        Err(ApiError::all(Code::InvalidValue, faults))
    }
}

/// A deployment.
#[derive(Serialize, JsonSchema)]
pub struct DeploymentAnswer {
    id: String,
    /// `dep_…`; names the deployment in URLs and is no secret.
    public_id: String,
    api_name: String,
    display_name: String,
    description: String,
    workflow: String,
    /// That of its workflow.
    deployment_type: Kind,
    is_active: bool,
    /// Counts its changes and its workflow's, from 1.
    revision: i32,
    /// The file that declares it, where it is to be changed; null if it is managed here.
    declared_in: Option<String>,
    /// Path to submit to.
    api_endpoint: String,
    created_at: String,
    updated_at: String,
    #[serde(flatten)]
    settings: Settings,
}

impl Answers for DeploymentAnswer {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "The deployment")];
    const HEADERS: &'static [Field] = &[Field::Etag];
}

/// A deployment that was just made.
#[derive(Serialize, JsonSchema)]
pub struct DeploymentCreated {
    #[serde(flatten)]
    deployment: DeploymentAnswer,
    /// Its first key, shown this once.
    api_key: String,
}

impl Answers for DeploymentCreated {
    const STATUSES: &'static [(u16, &'static str)] = &[(201, "Made")];
    const HEADERS: &'static [Field] = &[Field::Etag, Field::Location];
}

impl DeploymentAnswer {
    fn of(row: deployment::Model, kind: WorkflowKind) -> Self {
        Self {
            id: row.id.to_string(),
            api_endpoint: format!("/deployment/{}/", row.public_id),
            public_id: row.public_id,
            api_name: row.api_name,
            display_name: row.display_name,
            description: row.description,
            workflow: row.workflow_id.to_string(),
            deployment_type: kind.into(),
            is_active: row.is_active,
            revision: row.revision,
            declared_in: row.declared_in,
            created_at: time(row.created_at),
            updated_at: time(row.updated_at),
            settings: serde_json::from_str(&row.settings).unwrap_or_default(),
        }
    }
}

/// Create a deployment
/// With its first key, shown this once. When the answer is there, the deployment serves.
#[api_operation(tag = "deployments", operation_id = "create_deployment")]
pub async fn create(
    state: Data<State>,
    manager: OrganisationManager,
    body: Body<Object<DeploymentForm>>,
) -> ApiResult<Answer<DeploymentCreated>> {
    let write = off_thread(move || DeploymentWrite::parse(body.0.0)).await?;
    let owner = manager.0.organisation_id;
    let (draft, kind) = draft(&state.engine, &manager.0, write).await?;
    let (row, key) = state.engine.create_deployment(manager.author(), owner, draft).await?;
    let (place, revision) = (format!("/deployment/{}/", row.public_id), row.revision);
    let deployment = DeploymentAnswer::of(row, kind);
    let created = DeploymentCreated { deployment, api_key: key.reveal().to_owned() };
    Ok(Answer::created(created).location(&place).etag(revision))
}

/// List deployments
#[api_operation(tag = "deployments", operation_id = "list_deployments")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    paging: Paging,
) -> ApiResult<Answer<Listing<DeploymentAnswer>>> {
    let found = state.engine.store().deployments(manager.0.organisation_id, paging.page).await?;
    let shown = |(row, kind)| DeploymentAnswer::of(row, kind);
    Ok(Answer::ok(Listing::new(&paging, found, shown)))
}

/// Get a deployment
#[api_operation(tag = "deployments", operation_id = "get_deployment")]
pub async fn get(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<DeploymentAnswer>> {
    let owner = manager.0.organisation_id;
    let row = state.engine.store().deployment(owner, id.0).await?;
    Ok(Answer::ok(shown(&state, &row).await?).etag(row.revision))
}

async fn shown(state: &State, row: &deployment::Model) -> ApiResult<DeploymentAnswer> {
    let workflow = state.engine.store().workflow(row.organisation_id, row.workflow_id).await?;
    Ok(DeploymentAnswer::of(row.clone(), workflow.kind))
}

/// Replace a deployment
/// Makes a new revision; executions in flight keep theirs. What only the server writes (`id`, `revision` and so on) may be sent back as it was read.
#[api_operation(tag = "deployments", operation_id = "replace_deployment")]
pub async fn replace(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    if_match: IfMatch,
    body: Body<Object<DeploymentForm>>,
) -> ApiResult<Answer<DeploymentAnswer>> {
    let current = state.engine.store().deployment(manager.0.organisation_id, id.0).await?;
    if_match.check(current.revision)?;
    let mut object = body.0.0;
    drop_read_only(&mut object, &shown(&state, &current).await?, &READ_ONLY)?;
    change(&state, &manager, current, object).await
}

/// Change a deployment
/// A JSON merge patch (RFC 7396) of its fields, but for `input_schema`, which is replaced as a whole. It holds for the next request.
#[api_operation(tag = "deployments", operation_id = "change_deployment")]
pub async fn patch(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    if_match: IfMatch,
    body: Body<MergePatch<DeploymentForm>>,
) -> ApiResult<Answer<DeploymentAnswer>> {
    let current = state.engine.store().deployment(manager.0.organisation_id, id.0).await?;
    if_match.check(current.revision)?;
    let mut whole: Map<_, _> = serde_json::from_str(&current.settings).unwrap_or_default();
    let identity: Map<_, _> = typed(json!({
        "api_name": current.api_name,
        "workflow": current.workflow_id,
        "display_name": current.display_name,
        "description": current.description,
        "is_active": current.is_active,
    }))?;
    whole.extend(identity);
    let mut patch = body.0;
    drop_read_only(&mut patch.0, &shown(&state, &current).await?, &READ_ONLY)?;
    let schema = patch.0.get("input_schema").cloned();
    let mut whole = patch.apply(whole);
    // A schema merged into another would be neither, and lose each null.
    if let Some(schema) = schema {
        whole.insert("input_schema".to_owned(), schema);
    }
    change(&state, &manager, current, whole).await
}

/// Delete a deployment
/// Its keys open nothing from now on. What it had accepted still runs to its end; what a restart finds unfinished ends as `ERROR`.
#[api_operation(tag = "deployments", operation_id = "delete_deployment")]
pub async fn delete(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<Nothing>> {
    state.engine.delete_deployment(manager.author(), manager.0.organisation_id, id.0).await?;
    Ok(Answer::with_status(StatusCode::NO_CONTENT, Nothing {}))
}

async fn change(
    state: &State,
    manager: &OrganisationManager,
    current: deployment::Model,
    object: Map<String, Value>,
) -> ApiResult<Answer<DeploymentAnswer>> {
    let write = off_thread(move || DeploymentWrite::parse(object)).await?;
    let (draft, kind) = draft(&state.engine, &manager.0, write).await?;
    let row = state.engine.replace_deployment(manager.author(), current, draft).await?;
    let revision = row.revision;
    Ok(Answer::ok(DeploymentAnswer::of(row, kind)).etag(revision))
}

/// What is to be, with a workflow that is the organisation's and of its type,
/// a webhook that it can sign, and a source that is there.
async fn draft(
    engine: &Engine,
    owner: &Manager,
    write: DeploymentWrite,
) -> ApiResult<(DeploymentDraft, WorkflowKind)> {
    let DeploymentWrite { identity, settings } = write;
    let unknown =
        || ApiError::at(Code::InvalidValue, "workflow", "the id of one of your workflows");
    let workflow_id: Uuid = identity.workflow.parse().map_err(|_| unknown())?;
    let workflow = match engine.store().workflow(owner.organisation_id, workflow_id).await {
        Err(StoreError::NotFound) => return Err(unknown()),
        other => other?,
    };
    if identity.deployment_type.is_some_and(|kind| workflow.kind != kind.into()) {
        let detail = format!("its workflow is of type {}", workflow.kind.to_value());
        return Err(ApiError::at(Code::InvalidValue, "deployment_type", detail));
    }
    let connections = &engine.context().services.connections;
    let mut faults = webhooks::faults(connections, &owner.org_id, &settings);
    let wrong = [
        sources::misfit(&settings, workflow.kind),
        sources::fault(connections, &owner.org_id, &settings),
    ];
    let named = |(place, cure): (&str, &str)| (place.to_owned(), cure.to_owned());
    faults.extend(wrong.into_iter().flatten().map(named));
    if !faults.is_empty() {
        let faults = faults.into_iter().map(|(place, cure)| (Some(place), cure));
        return Err(ApiError::all(Code::InvalidValue, faults));
    }
    let draft = DeploymentDraft {
        workflow_id,
        display_name: identity.display_name.map_or_else(|| identity.api_name.clone(), Into::into),
        api_name: identity.api_name,
        description: identity.description.into(),
        is_active: identity.is_active,
        settings,
    };
    Ok((draft, workflow.kind))
}
