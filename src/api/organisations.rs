//! Organisations, made by the operator.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::api_operation;
use millrace_entities::organisation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::answer::{Answer, Answers, time};
use super::auth::Operator;
use super::body::{Body, Text, typed};
use super::page::{Listing, Paging};
use super::platform_keys::{self, PlatformKeyCreated, PlatformKeyWrite};
use super::schemas::MergePatch;
use super::{IfMatch, Nothing, OrganisationSlug, State};
use crate::error::{ApiError, ApiResult, Code};

/// A new organisation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrganisation {
    /// Slug: lower-case letters, digits and `-`, at most 63.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"))]
    org_id: String,
    /// Name for people; the slug if absent.
    #[serde(default)]
    name: Option<Text>,
}

/// An organisation.
#[derive(Serialize, JsonSchema)]
pub struct OrganisationAnswer {
    org_id: String,
    name: String,
    created_at: String,
}

impl Answers for OrganisationAnswer {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "The organisation")];
}

impl From<organisation::Model> for OrganisationAnswer {
    fn from(row: organisation::Model) -> Self {
        Self { org_id: row.slug, name: row.name, created_at: time(row.created_at) }
    }
}

/// What can be changed of an organisation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrganisationWrite {
    name: Text,
}

/// An organisation that was just made.
#[derive(Serialize, JsonSchema)]
pub struct OrganisationCreated {
    org_id: String,
    name: String,
    created_at: String,
    /// Its first platform key (`full_access`), shown this once.
    platform_key: String,
}

impl Answers for OrganisationCreated {
    const STATUSES: &'static [(u16, &'static str)] = &[(201, "Made")];
}

/// Create an organisation
/// With its first platform key, shown this once.
#[api_operation(tag = "administration", operation_id = "create_organisation")]
pub async fn create(
    state: Data<State>,
    operator: Operator,
    body: Body<NewOrganisation>,
) -> ApiResult<Answer<OrganisationCreated>> {
    let NewOrganisation { org_id, name } = body.0;
    if !is_slug(&org_id) {
        let detail = "lower-case letters, digits and -, 1 to 63, not beginning or ending with -";
        return Err(ApiError::at(Code::InvalidValue, "org_id", detail));
    }
    let name = name.map_or_else(|| org_id.clone(), Into::into);
    let (row, key) = state.engine.create_organisation(operator.author(), org_id, name).await?;
    Ok(Answer::created(OrganisationCreated {
        org_id: row.slug,
        name: row.name,
        created_at: time(row.created_at),
        platform_key: key.reveal().to_owned(),
    }))
}

/// List organisations
#[api_operation(tag = "administration", operation_id = "list_organisations")]
pub async fn list(
    state: Data<State>,
    _operator: Operator,
    paging: Paging,
) -> ApiResult<Answer<Listing<OrganisationAnswer>>> {
    let found = state.engine.store().organisations(paging.page).await?;
    Ok(Answer::ok(Listing::new(&paging, found, OrganisationAnswer::from)))
}

/// Get an organisation
#[api_operation(tag = "administration", operation_id = "get_organisation")]
pub async fn get(
    state: Data<State>,
    _operator: Operator,
    org_id: OrganisationSlug,
) -> ApiResult<Answer<OrganisationAnswer>> {
    let row = state.engine.store().organisation(&org_id.0).await?;
    let revision = row.revision;
    Ok(Answer::ok(row.into()).etag(revision))
}

/// Change an organisation
/// A JSON merge patch (RFC 7396) of its `name`; its `org_id` stays.
#[api_operation(tag = "administration", operation_id = "change_organisation")]
pub async fn patch(
    state: Data<State>,
    operator: Operator,
    org_id: OrganisationSlug,
    if_match: IfMatch,
    body: Body<MergePatch<OrganisationWrite>>,
) -> ApiResult<Answer<OrganisationAnswer>> {
    let current = state.engine.store().organisation(&org_id.0).await?;
    if_match.check(current.revision)?;
    let whole = typed(json!({"name": current.name}))?;
    let OrganisationWrite { name } = typed(body.0.apply(whole).into())?;
    let row = state.engine.rename_organisation(operator.author(), current, name.into()).await?;
    let revision = row.revision;
    Ok(Answer::ok(row.into()).etag(revision))
}

/// Delete an organisation
/// Only if it has nothing but platform keys, which open nothing from now on.
#[api_operation(tag = "administration", operation_id = "delete_organisation")]
pub async fn delete(
    state: Data<State>,
    operator: Operator,
    org_id: OrganisationSlug,
) -> ApiResult<Answer<Nothing>> {
    let row = state.engine.store().organisation(&org_id.0).await?;
    state.engine.delete_organisation(operator.author(), &row).await?;
    Ok(Answer::with_status(StatusCode::NO_CONTENT, Nothing {}))
}

/// Create a platform key for an organisation
/// For one that has lost its keys. The key itself is shown this once.
#[api_operation(tag = "administration", operation_id = "create_platform_key_as_operator")]
pub async fn create_platform_key(
    state: Data<State>,
    operator: Operator,
    org_id: OrganisationSlug,
    body: Body<PlatformKeyWrite>,
) -> ApiResult<Answer<PlatformKeyCreated>> {
    let organisation = state.engine.store().organisation(&org_id.0).await?;
    platform_keys::make(&state, operator.author(), organisation.id, body.0).await
}

/// RFC 1123 section 2.1: a label of letters, digits and inner hyphens.
pub(super) fn is_slug(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
