//! Organisations, made by the operator.

use actix_web::web::Data;
use apistos::api_operation;
use millrace_entities::organisation;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::State;
use super::answer::{Answer, Answers, time};
use super::auth::Operator;
use super::body::{Body, Text};
use super::page::{Listing, Paging};
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
    let shown = |row: organisation::Model| OrganisationAnswer {
        org_id: row.slug,
        name: row.name,
        created_at: time(row.created_at),
    };
    Ok(Answer::ok(Listing::new(&paging, found, shown)))
}

/// RFC 1123 section 2.1: a label of letters, digits and inner hyphens.
fn is_slug(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}
