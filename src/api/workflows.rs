//! Workflows of an organisation.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::api_operation;
use millrace_entities::enums::WorkflowKind;
use millrace_entities::workflow;
use schemars::JsonSchema;
use sea_orm::ActiveEnum;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Answer, Answers, Field, time};
use super::auth::OrganisationManager;
use super::body::{Body, Text, typed};
use super::page::{Listing, Paging};
use super::schemas::{MergePatch, Name, Object, drop_read_only, name_text};
use super::{IfMatch, Nothing, ResourceId, State};
use crate::engine::audit::Author;
use crate::engine::flow::OnError;
use crate::engine::manage::{ManageError, WorkflowDraft, check_steps};
use crate::engine::plan::{STEP_ID, StepDefinition};
use crate::engine::retry::Retry;
use crate::error::{ApiError, ApiResult, Code};

/// What only the server writes.
const READ_ONLY: [&str; 5] = ["id", "revision", "declared_in", "created_at", "updated_at"];

/// A workflow as it is written.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkflowWrite {
    /// Name, unique in the organisation.
    #[schemars(with = "Name")]
    pub name: Text,
    /// `ETL` (documents into a destination) or `TASK` (documents or JSON into a result).
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Text for people.
    #[serde(default)]
    pub description: Text,
    /// The steps, in the order in which they run.
    #[schemars(with = "Vec<StepWrite>")]
    pub steps: Vec<StepDefinition>,
}

impl WorkflowWrite {
    fn draft(self) -> ApiResult<WorkflowDraft> {
        Ok(WorkflowDraft {
            name: name_text(self.name)?,
            kind: self.kind.into(),
            description: self.description.into(),
            steps: self.steps,
        })
    }
}

/// A step as a workflow writes it.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
#[expect(dead_code, reason = "documents `StepDefinition`")]
pub struct StepWrite {
    /// Name of the step in its workflow; the kind's name if absent.
    #[schemars(regex(path = "STEP_ID"))]
    id: Option<String>,
    /// The step kind.
    uses: String,
    /// JSON pointer (RFC 6901) into the context that selects what the step works on; the output of the step before it if absent.
    input: Option<String>,
    /// Expression of minijinja that says whether it runs, such as `input.total > 100`; where it does not, the next step gets what this one would have got.
    #[schemars(length(max = 4096))]
    when: Option<String>,
    /// The kind's parameters: an object.
    with: Option<Value>,
    /// What its failure means for the document.
    on_error: Option<OnError>,
    /// When it is tried again; as the deployment says if absent. What it leaves out has its default.
    retry: Option<Retry>,
    /// Time for one try, in seconds; absent: as long as the execution has.
    #[schemars(range(min = 1, max = 86_400))]
    timeout_seconds: Option<u32>,
}

/// What a workflow is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[schemars(rename = "WorkflowType")]
pub enum Kind {
    /// Documents into a destination.
    Etl,
    /// Documents or JSON into a result.
    Task,
}

impl From<WorkflowKind> for Kind {
    fn from(kind: WorkflowKind) -> Self {
        match kind {
            WorkflowKind::Etl => Self::Etl,
            WorkflowKind::Task => Self::Task,
        }
    }
}

impl From<Kind> for WorkflowKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Etl => Self::Etl,
            Kind::Task => Self::Task,
        }
    }
}

/// A workflow.
#[derive(Serialize, JsonSchema)]
pub struct WorkflowAnswer {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    description: String,
    /// The steps, in the order in which they run.
    steps: Value,
    /// Counts its changes, from 1.
    revision: i32,
    /// The file that declares it, where it is to be changed; null if it is managed here.
    declared_in: Option<String>,
    created_at: String,
    updated_at: String,
}

impl Answers for WorkflowAnswer {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "The workflow"), (201, "Made")];
    const HEADERS: &'static [Field] = &[Field::Etag];
}

impl From<workflow::Model> for WorkflowAnswer {
    fn from(row: workflow::Model) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            kind: row.kind.to_value(),
            description: row.description,
            steps: serde_json::from_str(&row.steps).unwrap_or_default(),
            revision: row.revision,
            declared_in: row.declared_in,
            created_at: time(row.created_at),
            updated_at: time(row.updated_at),
        }
    }
}

/// Whether a workflow could be used.
#[derive(Serialize, JsonSchema)]
pub struct Validity {
    valid: bool,
}

impl Answers for Validity {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "The workflow can be used")];
}

fn shown(status: StatusCode, row: workflow::Model) -> Answer<WorkflowAnswer> {
    let revision = row.revision;
    Answer::with_status(status, row.into()).etag(revision)
}

/// Create a workflow
/// Steps are checked: a fault names its place.
#[api_operation(tag = "workflows", operation_id = "create_workflow")]
pub async fn create(
    state: Data<State>,
    manager: OrganisationManager,
    body: Body<WorkflowWrite>,
) -> ApiResult<Answer<WorkflowAnswer>> {
    let draft = body.0.draft()?;
    let row =
        state.engine.create_workflow(manager.author(), manager.0.organisation_id, draft).await?;
    Ok(shown(StatusCode::CREATED, row))
}

/// List workflows
#[api_operation(tag = "workflows", operation_id = "list_workflows")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    paging: Paging,
) -> ApiResult<Answer<Listing<WorkflowAnswer>>> {
    let found = state.engine.store().workflows(manager.0.organisation_id, paging.page).await?;
    Ok(Answer::ok(Listing::new(&paging, found, WorkflowAnswer::from)))
}

/// Get a workflow
#[api_operation(tag = "workflows", operation_id = "get_workflow")]
pub async fn get(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<WorkflowAnswer>> {
    let row = state.engine.store().workflow(manager.0.organisation_id, id.0).await?;
    Ok(shown(StatusCode::OK, row))
}

/// Replace a workflow
/// Deployments that serve it get a new revision; executions in flight keep theirs. What only the server writes (`id`, `revision` and so on) may be sent back as it was read.
#[api_operation(tag = "workflows", operation_id = "replace_workflow")]
pub async fn replace(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    if_match: IfMatch,
    body: Body<Object<WorkflowWrite>>,
) -> ApiResult<Answer<WorkflowAnswer>> {
    let current = state.engine.store().workflow(manager.0.organisation_id, id.0).await?;
    if_match.check(current.revision)?;
    let mut object = body.0.0;
    drop_read_only(&mut object, &WorkflowAnswer::from(current.clone()), &READ_ONLY)?;
    change(&state, manager.author(), current, typed(object.into())?).await
}

/// Change a workflow
/// A JSON merge patch (RFC 7396) of its fields.
#[api_operation(tag = "workflows", operation_id = "change_workflow")]
pub async fn patch(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    if_match: IfMatch,
    body: Body<MergePatch<WorkflowWrite>>,
) -> ApiResult<Answer<WorkflowAnswer>> {
    let current = state.engine.store().workflow(manager.0.organisation_id, id.0).await?;
    if_match.check(current.revision)?;
    let whole = typed(serde_json::json!({
        "name": current.name,
        "type": current.kind.to_value(),
        "description": current.description,
        "steps": serde_json::from_str::<Value>(&current.steps).unwrap_or_default(),
    }))?;
    let mut patch = body.0;
    drop_read_only(&mut patch.0, &WorkflowAnswer::from(current.clone()), &READ_ONLY)?;
    change(&state, manager.author(), current, typed(patch.apply(whole).into())?).await
}

/// Delete a workflow
/// Only if no deployment serves it.
#[api_operation(tag = "workflows", operation_id = "delete_workflow")]
pub async fn delete(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<Nothing>> {
    state.engine.delete_workflow(manager.author(), manager.0.organisation_id, id.0).await?;
    Ok(Answer::with_status(StatusCode::NO_CONTENT, Nothing {}))
}

/// Validate a workflow
/// Checks the stored workflow against the step kinds this server has, and against the organisation's connections.
#[api_operation(tag = "workflows", operation_id = "validate_workflow")]
pub async fn validate(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<Validity>> {
    let row = state.engine.store().workflow(manager.0.organisation_id, id.0).await?;
    let steps: Vec<StepDefinition> =
        serde_json::from_str(&row.steps).map_err(|_| ApiError::new(Code::Internal))?;
    let missing = state.engine.missing_connections(&manager.0, &steps);
    check_steps(steps).await?;
    if !missing.is_empty() {
        return Err(ManageError::Steps(missing).into());
    }
    Ok(Answer::ok(Validity { valid: true }))
}

async fn change(
    state: &State,
    author: &Author,
    current: workflow::Model,
    write: WorkflowWrite,
) -> ApiResult<Answer<WorkflowAnswer>> {
    if current.kind != write.kind.into() {
        let detail = "the type of a workflow cannot change; make a new workflow";
        return Err(ApiError::at(Code::InvalidValue, "type", detail));
    }
    let row = state.engine.replace_workflow(author, current, write.draft()?).await?;
    Ok(shown(StatusCode::OK, row))
}
