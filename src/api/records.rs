//! An organisation's executions, also those of deployments that are gone.

mod answers;
pub(super) mod filter;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::answer::Answer;
use super::auth::OrganisationManager;
use super::body::Body;
use super::executions;
use super::page::{Filtered, Listing, Paging};
use super::{ResourceId, State};
use crate::engine::CancelError;
use crate::engine::acceptance::AcceptError;
use crate::engine::plan::STEP_ID;
use crate::engine::rerun::RerunError;
use crate::error::{ApiError, ApiResult, Code};
use crate::store::page::Paged;
use crate::store::records::{Scope, StepMark, Summary};
use answers::{ExecutionAnswer, ExecutionDetail, LogLine, Repeated, StepAnswer};
use filter::ExecutionsQuery;

/// Most steps in a page that brings their outputs.
const MAX_OUTPUTS: u64 = 50;

/// List executions
/// Newest first; also those of deployments that were deleted.
#[api_operation(tag = "executions", operation_id = "list_executions")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    query: Filtered<ExecutionsQuery>,
) -> ApiResult<Answer<Listing<ExecutionAnswer>>> {
    let Filtered { paging, filter } = query;
    let owner = &manager.0;
    let found =
        state.engine.store().executions(owner.organisation_id, filter.into(), paging.page).await?;
    let shown = |listed| ExecutionAnswer::of(&state, &owner.org_id, listed);
    Ok(Answer::ok(Listing::new(&paging, found, shown)))
}

/// Get an execution
/// Where it stands, and each of its documents.
#[api_operation(tag = "executions", operation_id = "get_execution")]
pub async fn get(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<ExecutionDetail>> {
    Ok(Answer::ok(detail(&state, &manager, id.0).await?))
}

/// Which steps.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct StepsQuery {
    /// Brings outputs that are small enough to be kept with the step; then a page has at most 50 steps.
    include_output: Option<bool>,
}

/// List recorded steps
/// By document and step. A step is recorded when it ends; an output that is large is named by its hash only.
#[api_operation(tag = "executions", operation_id = "list_execution_steps")]
pub async fn steps(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    query: Filtered<StepsQuery>,
) -> ApiResult<Answer<Listing<StepAnswer>>> {
    let Filtered { paging, filter } = query;
    let with_outputs = filter.include_output.unwrap_or_default();
    if with_outputs && paging.page.size > MAX_OUTPUTS {
        let detail = format!("from 1 to {MAX_OUTPUTS} with `include_output`");
        return Err(ApiError::at(Code::InvalidValue, "page_size", detail));
    }
    let (scope, row) = scoped(&state, &manager, id.0).await?;
    let outline = state.engine.outline(scope, &row).await?;
    let store = state.engine.store();
    let found = if with_outputs {
        let Paged { total, rows } = store.step_outputs(row.id, paging.page).await?;
        let rows = rows.into_iter().map(|row| (StepMark::of(&row), row.output)).collect();
        Paged { total, rows }
    } else {
        let Paged { total, rows } = store.step_page(row.id, paging.page).await?;
        Paged { total, rows: rows.into_iter().map(|mark| (mark, None)).collect() }
    };
    let shown = |(mark, output)| StepAnswer::of(mark, output, &outline);
    Ok(Answer::ok(Listing::new(&paging, found, shown)))
}

/// List log lines
/// What happened to the execution, oldest first: the same that `events` tells.
#[api_operation(tag = "executions", operation_id = "list_execution_logs")]
pub async fn logs(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    paging: Paging,
) -> ApiResult<Answer<Listing<LogLine>>> {
    let (scope, row) = scoped(&state, &manager, id.0).await?;
    let outline = state.engine.outline(scope, &row).await?;
    let events = state.engine.history(&row, &outline).await?;
    let page = paging.page;
    let skipped = usize::try_from(page.index.saturating_mul(page.size)).unwrap_or(usize::MAX);
    let most = usize::try_from(page.size).unwrap_or(usize::MAX);
    let total = events.len() as u64;
    let rows = events.into_iter().skip(skipped).take(most).collect();
    let shown = |event| LogLine::of(&event, &outline);
    Ok(Answer::ok(Listing::new(&paging, Paged { total, rows }, shown)))
}

/// Cancel an execution
/// As a caller's `cancel`: it becomes `STOPPED`. Asking again is the same as asking once.
#[api_operation(tag = "executions", operation_id = "cancel_execution")]
pub async fn cancel(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<ExecutionDetail>> {
    let (_, row) = scoped(&state, &manager, id.0).await?;
    let cancelled = state.engine.cancel(row.deployment_id, row.id).await;
    cancelled.map_err(|error| match error {
        CancelError::Ended => ApiError::new(Code::AlreadyEnded),
        CancelError::Store(error) => error.into(),
    })?;
    let body = detail(&state, &manager, id.0).await?;
    Ok(Answer::with_status(StatusCode::ACCEPTED, body))
}

/// From where on.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RerunWrite {
    /// Id of the step to begin with: what is recorded of those before it is taken over. They must be the same as then. Absent: all steps run.
    #[serde(default)]
    #[schemars(regex(path = "STEP_ID"))]
    from_step: Option<String>,
}

/// Run an execution again
/// As a new one: with the same submission, on what the deployment runs now. It needs a place like any submission, but no permit of the rate limit.
#[api_operation(tag = "executions", operation_id = "rerun_execution")]
pub async fn rerun(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
    body: Body<RerunWrite>,
) -> ApiResult<Answer<Repeated>> {
    let (_, row) = scoped(&state, &manager, id.0).await?;
    let from_step = body.0.from_step.as_deref();
    let made = state.engine.rerun(manager.author(), &row, from_step).await?;
    let body = Repeated(detail(&state, &manager, made.id).await?);
    let place = body.0.place().to_owned();
    Ok(Answer::with_status(StatusCode::ACCEPTED, body).location(&place))
}

impl From<RerunError> for ApiError {
    fn from(error: RerunError) -> Self {
        match error {
            RerunError::NotEnded => Self::new(Code::NotEnded),
            RerunError::Expired => {
                let detail = "The execution has expired; what was submitted is gone.";
                Self::with_detail(Code::ResultExpired, detail)
            }
            RerunError::DeploymentDeleted => Self::new(Code::DeploymentDeleted),
            RerunError::UnknownStep(known) => {
                let detail = format!("one of the workflow's steps: {}", known.join(", "));
                Self::at(Code::InvalidValue, "from_step", detail)
            }
            RerunError::StepsChanged => Self::new(Code::StepsChanged),
            RerunError::Refused(refusal) => executions::refused(refusal),
            RerunError::Commit(error) => AcceptError::from(error).into(),
            RerunError::Store(error) => error.into(),
        }
    }
}

async fn scoped(
    state: &State,
    manager: &OrganisationManager,
    id: Uuid,
) -> ApiResult<(Scope, Summary)> {
    let scope = Scope::Organisation(manager.0.organisation_id);
    Ok((scope, state.engine.store().summary(scope, id).await?))
}

async fn detail(
    state: &State,
    manager: &OrganisationManager,
    id: Uuid,
) -> ApiResult<ExecutionDetail> {
    let (scope, row) = scoped(state, manager, id).await?;
    let outline = state.engine.outline(scope, &row).await?;
    let events = state.engine.history(&row, &outline).await?;
    let listed = state.engine.store().named(vec![row]).await?.pop();
    let listed = listed.ok_or_else(|| ApiError::new(Code::NotFound))?;
    let execution = ExecutionAnswer::of(state, &manager.0.org_id, listed);
    Ok(ExecutionDetail::of(execution, &outline, &events))
}
