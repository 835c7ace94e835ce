//! The audit trail of an organisation.

use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use chrono::{DateTime, SubsecRound, Utc};
use millrace_entities::audit_entry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::State;
use super::answer::{Answer, time};
use super::auth::OrganisationManager;
use super::page::{Filtered, Listing};
use super::schemas::{Id, Time};
use crate::engine::audit::{Action, AuthorKind};
use crate::error::{ApiError, ApiResult, Code};
use crate::store::audit::AuditFilter;

/// Which entries.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Kind of resource, such as `api-deployment`, `key` or `workflow`.
    #[schemars(regex(pattern = r"^[^\u0000]*$"))]
    resource: Option<String>,
    /// Id of the resource.
    #[schemars(with = "Option<Id>")]
    resource_id: Option<Uuid>,
    /// What was done: `create`, `change`, `delete`, `rotate` or `revoke`.
    action: Option<Action>,
    /// Who did it: the id of a platform key, or `operator`, `platform_key`, `files` or `server`.
    #[schemars(regex(
        pattern = r"^(operator|platform_key|files|server|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$"
    ))]
    actor: Option<String>,
    /// From then on (RFC 3339).
    #[schemars(with = "Option<Time>")]
    from: Option<DateTime<Utc>>,
    /// Before then (RFC 3339).
    #[schemars(with = "Option<Time>")]
    to: Option<DateTime<Utc>>,
}

/// The authors that are named by their kind.
const KINDS: [AuthorKind; 4] =
    [AuthorKind::Operator, AuthorKind::PlatformKey, AuthorKind::Files, AuthorKind::Server];

impl AuditQuery {
    /// The filter in the store's terms.
    ///
    /// # Errors
    /// `invalid_value`.
    fn filter(self) -> ApiResult<AuditFilter> {
        if self.resource.as_ref().is_some_and(|name| name.contains('\0')) {
            let detail = "text without the character U+0000";
            return Err(ApiError::at(Code::InvalidValue, "resource", detail));
        }
        let mut filter = AuditFilter {
            resource: self.resource,
            resource_id: self.resource_id,
            action: self.action.map(Action::name),
            // All that the store keeps; finer times would compare otherwise.
            from: self.from.map(|at| at.trunc_subsecs(6)),
            to: self.to.map(|at| at.trunc_subsecs(6)),
            ..AuditFilter::default()
        };
        if let Some(actor) = self.actor {
            filter.author_id = actor.parse().ok();
            filter.author_kind = KINDS.map(AuthorKind::name).into_iter().find(|it| *it == actor);
            if filter.author_id.is_none() && filter.author_kind.is_none() {
                let detail = "the id of a platform key, operator, platform_key, files or server";
                return Err(ApiError::at(Code::InvalidValue, "actor", detail));
            }
        }
        Ok(filter)
    }
}

/// Who made a change.
#[derive(Serialize, JsonSchema)]
pub struct Actor {
    /// `operator`, `platform_key`, `files` or `server`.
    kind: String,
    /// Id of the platform key.
    id: Option<String>,
    /// Name for people, as it was then.
    name: String,
}

/// One change: who made it, of what, when, from where. Never what was written.
#[derive(Serialize, JsonSchema)]
pub struct AuditEntry {
    id: String,
    created_at: String,
    actor: Actor,
    /// `create`, `change`, `delete`, `rotate` or `revoke`.
    action: String,
    /// Kind of resource, as in its path.
    resource: String,
    resource_id: Option<String>,
    /// Name for people, as it was then.
    resource_name: Option<String>,
    /// Names of the fields that changed.
    changed: Vec<String>,
    /// Network address of the request.
    address: Option<String>,
    /// `X-Request-Id` of the request.
    request_id: Option<String>,
}

impl From<audit_entry::Model> for AuditEntry {
    fn from(row: audit_entry::Model) -> Self {
        Self {
            id: row.id.to_string(),
            created_at: time(row.created_at),
            actor: Actor {
                kind: row.author_kind,
                id: row.author_id.map(|id| id.to_string()),
                name: row.author_name,
            },
            action: row.action,
            resource: row.resource,
            resource_id: row.resource_id.map(|id| id.to_string()),
            resource_name: row.resource_name,
            changed: serde_json::from_str(&row.changed).unwrap_or_default(),
            address: row.address,
            request_id: row.request_id,
        }
    }
}

/// List changes
/// Newest first. Every change of what is managed leaves one entry, which is kept for ever.
#[api_operation(tag = "audit", operation_id = "list_audit_entries")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    query: Filtered<AuditQuery>,
) -> ApiResult<Answer<Listing<AuditEntry>>> {
    let Filtered { filter, paging } = query;
    let owner = manager.organisation_id();
    let found = state.engine.store().audit_entries(owner, filter.filter()?, paging.page).await?;
    Ok(Answer::ok(Listing::new(&paging, found, AuditEntry::from)))
}
