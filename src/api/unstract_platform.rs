//! Unstract's own management paths: who a platform key is, and what there is
//! to call.

use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use millrace_entities::deployment::{self, Column};
use schemars::JsonSchema;
use sea_orm::{ActiveEnum, Order};
use serde::{Deserialize, Serialize};

use super::State;
use super::answer::{Answer, Answers, time};
use super::auth::{OrganisationManager, PlatformCaller};
use super::page::{Filtered, Listing};
use super::schemas::Id;
use crate::error::{ApiError, ApiResult, Code};
use crate::store::summaries::{Run, Summary, Wanted};

/// Whose key it is, and what it may do.
#[derive(Serialize, JsonSchema)]
pub struct WhoAmI {
    /// Slug of the organisation: `org_id` of every other path.
    organization_id: String,
    organization_name: String,
    /// `read`, `read_write` or `full_access`.
    permission: String,
    key_name: String,
}

impl Answers for WhoAmI {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "Whose key it is")];
}

/// Which deployments, and in which order.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct DeploymentFilter {
    /// The one of exactly this name.
    #[schemars(regex(pattern = r"^[^\u0000]*$"))]
    api_name: Option<String>,
    /// Those that have this text in a name or in the description, in any case.
    #[schemars(regex(pattern = r"^[^\u0000]*$"))]
    search: Option<String>,
    /// What they are ordered by; a `-` turns the order round. `api_name` if absent.
    #[serde(default)]
    ordering: Ordering,
    /// Those that serve the workflow of this id.
    #[schemars(with = "Option<Id>")]
    workflow: Option<String>,
}

/// What deployments can be ordered by.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
enum Ordering {
    #[default]
    #[serde(rename = "api_name")]
    Name,
    #[serde(rename = "-api_name")]
    NameReversed,
    #[serde(rename = "display_name")]
    DisplayName,
    #[serde(rename = "-display_name")]
    DisplayNameReversed,
    #[serde(rename = "created_at")]
    Created,
    #[serde(rename = "-created_at")]
    CreatedReversed,
    #[serde(rename = "modified_at")]
    Modified,
    #[serde(rename = "-modified_at")]
    ModifiedReversed,
}

impl Ordering {
    fn parts(self) -> (Column, Order) {
        match self {
            Self::Name => (Column::ApiName, Order::Asc),
            Self::NameReversed => (Column::ApiName, Order::Desc),
            Self::DisplayName => (Column::DisplayName, Order::Asc),
            Self::DisplayNameReversed => (Column::DisplayName, Order::Desc),
            Self::Created => (Column::CreatedAt, Order::Asc),
            Self::CreatedReversed => (Column::CreatedAt, Order::Desc),
            Self::Modified => (Column::UpdatedAt, Order::Asc),
            Self::ModifiedReversed => (Column::UpdatedAt, Order::Desc),
        }
    }
}

impl DeploymentFilter {
    fn wanted(self) -> ApiResult<Wanted> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let wrong = |_| ApiError::at(Code::InvalidValue, "workflow", "the id of a workflow");
        let workflow_id = self.workflow.map(|id| id.parse().map_err(wrong)).transpose()?;
        let (by, order) = self.ordering.parts();
        let (api_name, search) = (given(self.api_name), given(self.search));
        for (name, text) in [("api_name", &api_name), ("search", &search)] {
            if text.as_ref().is_some_and(|text| text.contains('\0')) {
                let detail = "text without the character U+0000";
                return Err(ApiError::at(Code::InvalidValue, name, detail));
            }
        }
        Ok(Wanted { api_name, workflow_id, search, by, order })
    }
}

/// A deployment as Unstract lists it. Millrace knows keys, not users: who
/// owns or made it is nobody.
#[derive(Serialize, JsonSchema)]
pub struct DeploymentSummary {
    id: String,
    api_name: String,
    display_name: String,
    description: String,
    /// Where Unstract's clients submit to.
    api_endpoint: String,
    is_active: bool,
    workflow: String,
    workflow_name: String,
    created_at: String,
    modified_at: String,
    /// Executions that are still known.
    run_count: u64,
    /// When the latest was accepted.
    last_run_time: Option<String>,
    /// The latest, the newest first.
    last_5_run_statuses: Vec<RunStatus>,
    created_by: Option<i64>,
    created_by_email: Option<String>,
    owner_emails: Vec<String>,
    co_owners_count: u64,
    is_owner: bool,
}

/// An execution in short.
#[derive(Serialize, JsonSchema)]
pub struct RunStatus {
    execution_id: String,
    status: String,
    /// When it was accepted.
    timestamp: String,
}

impl From<Run> for RunStatus {
    fn from(run: Run) -> Self {
        Self {
            execution_id: run.id.to_string(),
            status: run.status.to_value(),
            timestamp: time(run.created_at),
        }
    }
}

impl DeploymentSummary {
    fn of(summary: Summary, org_id: &str, public_url: &str) -> Self {
        let Summary { deployment, workflow_name, run_count, latest } = summary;
        let deployment::Model { api_name, .. } = &deployment;
        let base = public_url.trim_end_matches('/');
        Self {
            api_endpoint: format!("{base}/deployment/api/{org_id}/{api_name}/"),
            id: deployment.id.to_string(),
            api_name: deployment.api_name,
            display_name: deployment.display_name,
            description: deployment.description,
            is_active: deployment.is_active,
            workflow: deployment.workflow_id.to_string(),
            workflow_name,
            created_at: time(deployment.created_at),
            modified_at: time(deployment.updated_at),
            run_count,
            last_run_time: latest.first().map(|run| time(run.created_at)),
            last_5_run_statuses: latest.into_iter().map(Into::into).collect(),
            created_by: None,
            created_by_email: None,
            owner_emails: Vec::new(),
            co_owners_count: 0,
            is_owner: false,
        }
    }
}

/// Who am I (Unstract)
/// The organisation of a platform key, and what the key may do.
#[api_operation(tag = "unstract", operation_id = "unstract_whoami")]
pub async fn whoami(state: Data<State>, caller: PlatformCaller) -> ApiResult<Answer<WhoAmI>> {
    let PlatformCaller(manager) = caller;
    let store = state.engine.store();
    let found = store.key_and_organisation(manager.organisation_id, manager.key_id).await;
    let (key, organisation) = found?;
    Ok(Answer::ok(WhoAmI {
        organization_id: organisation.slug,
        organization_name: organisation.name,
        permission: key.tier.to_value(),
        key_name: key.name,
    }))
}

/// List deployments (Unstract)
/// With what has run on each.
#[api_operation(tag = "unstract", operation_id = "unstract_list_deployments")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    wanted: Filtered<DeploymentFilter>,
) -> ApiResult<Answer<Listing<DeploymentSummary>>> {
    let manager = &manager.0;
    let Filtered { paging, filter } = wanted;
    let store = state.engine.store();
    let found =
        store.deployment_summaries(manager.organisation_id, filter.wanted()?, paging.page).await?;
    let public_url = &state.config.public_url;
    let shown = |summary| DeploymentSummary::of(summary, &manager.org_id, public_url);
    Ok(Answer::ok(Listing::new(&paging, found, shown)))
}
