//! Keys of a deployment.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::api_operation;
use chrono::{DateTime, Utc};
use millrace_entities::api_key;
use millrace_entities::enums::Tier;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Answers, time};
use super::auth::OrganisationManager;
use super::body::{Body, Text};
use super::page::{Listing, Paging};
use super::schemas::Time;
use super::{KeyId, Nothing, ResourceId, State};
use crate::clock;
use crate::error::{ApiError, ApiResult, Code};

/// A new key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Text for people.
    #[serde(default)]
    description: Text,
    /// From when on it opens nothing (RFC 3339); absent: never.
    #[serde(default)]
    #[schemars(with = "Option<Time>")]
    expires_at: Option<DateTime<Utc>>,
}

/// A key as it can be seen again.
#[derive(Serialize, JsonSchema)]
pub struct KeyAnswer {
    id: String,
    description: String,
    /// First characters.
    prefix: String,
    /// Last four characters.
    last_four: String,
    is_active: bool,
    expires_at: Option<String>,
    created_at: String,
}

impl Answers for KeyAnswer {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "The key, without the key itself")];
}

/// A key that was just made.
#[derive(Serialize, JsonSchema)]
pub struct KeyCreated {
    #[serde(flatten)]
    key: KeyAnswer,
    /// The key itself, shown this once.
    api_key: String,
}

impl Answers for KeyCreated {
    const STATUSES: &'static [(u16, &'static str)] = &[(201, "Made")];
}

impl KeyAnswer {
    fn of(row: api_key::Model) -> Self {
        Self {
            id: row.id.to_string(),
            description: row.description,
            prefix: row.prefix,
            last_four: row.last_four,
            is_active: row.is_active,
            expires_at: row.expires_at.map(time),
            created_at: time(row.created_at),
        }
    }
}

/// Create a key
/// The key itself is shown this once.
#[api_operation(tag = "keys", operation_id = "create_key")]
pub async fn create(
    state: Data<State>,
    manager: OrganisationManager,
    deployment: ResourceId,
    body: Body<NewKey>,
) -> ApiResult<Answer<KeyCreated>> {
    manager.require(Tier::FullAccess)?;
    let NewKey { description, expires_at } = body.0;
    if expires_at.is_some_and(|end| end <= clock::now()) {
        return Err(ApiError::at(Code::InvalidValue, "expires_at", "a time to come"));
    }
    let owner = manager.0.organisation_id;
    let deployment = state.engine.store().deployment(owner, deployment.0).await?;
    let (row, key) = state
        .engine
        .create_key(manager.author(), &deployment, description.into(), expires_at)
        .await?;
    let created = KeyCreated { key: KeyAnswer::of(row), api_key: key.reveal().to_owned() };
    Ok(Answer::created(created))
}

/// List keys
/// Never the keys themselves.
#[api_operation(tag = "keys", operation_id = "list_keys")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    deployment: ResourceId,
    paging: Paging,
) -> ApiResult<Answer<Listing<KeyAnswer>>> {
    let owner = manager.0.organisation_id;
    let deployment = state.engine.store().deployment(owner, deployment.0).await?;
    let found = state.engine.store().api_keys(deployment.id, paging.page).await?;
    Ok(Answer::ok(Listing::new(&paging, found, KeyAnswer::of)))
}

/// Get a key
/// Never the key itself.
#[api_operation(tag = "keys", operation_id = "get_key")]
pub async fn get(
    state: Data<State>,
    manager: OrganisationManager,
    deployment: ResourceId,
    key: KeyId,
) -> ApiResult<Answer<KeyAnswer>> {
    let owner = manager.0.organisation_id;
    let deployment = state.engine.store().deployment(owner, deployment.0).await?;
    let row = state.engine.store().api_key(deployment.id, key.0).await?;
    Ok(Answer::ok(KeyAnswer::of(row)))
}

/// Revoke a key
/// It opens nothing from now on. Revoking again changes nothing.
#[api_operation(tag = "keys", operation_id = "revoke_key")]
pub async fn revoke(
    state: Data<State>,
    manager: OrganisationManager,
    deployment: ResourceId,
    key: KeyId,
) -> ApiResult<Answer<Nothing>> {
    let owner = manager.0.organisation_id;
    let deployment = state.engine.store().deployment(owner, deployment.0).await?;
    state.engine.revoke_key(manager.author(), &deployment, key.0).await?;
    Ok(Answer::with_status(StatusCode::NO_CONTENT, Nothing {}))
}
