//! Keys of a deployment.

use std::collections::HashMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::api_operation;
use chrono::{DateTime, Datelike, SubsecRound, Utc};
use millrace_entities::{api_key, deployment};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::answer::{Answer, Answers, time};
use super::auth::{FullManager, OrganisationManager};
use super::body::{Body, Text, typed};
use super::page::{Listing, Paging};
use super::schemas::{MergePatch, Time};
use super::{IfMatch, KeyId, Nothing, ResourceId, State};
use crate::clock;
use crate::engine::audit::Author;
use crate::engine::manage::keys::{KeyDraft, Rotation};
use crate::error::{ApiError, ApiResult, Code};

/// Longest overlap of a rotation, in seconds: a week.
pub(super) const MAX_OVERLAP: u32 = 604_800;

/// Overlap of a rotation where none is given, in seconds.
pub(super) fn default_overlap() -> u32 {
    3600
}

pub(super) fn yes() -> bool {
    true
}

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

/// What can be changed of a key.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyWrite {
    /// Text for people.
    #[serde(default)]
    description: Text,
    /// From when on it opens nothing (RFC 3339); absent: never.
    #[serde(default)]
    #[schemars(with = "Option<Time>")]
    expires_at: Option<DateTime<Utc>>,
    /// Whether it opens anything. It can be switched on again.
    #[serde(default = "yes")]
    is_active: bool,
}

/// How a key gives way to a new one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRotation {
    /// For how long the old key still opens, if it does not expire before.
    #[serde(default = "default_overlap")]
    #[schemars(range(min = 0, max = 604_800))]
    overlap_seconds: u32,
    /// Text for people; that of the old key if absent.
    #[serde(default)]
    description: Option<Text>,
    /// From when on the new key opens nothing (RFC 3339); absent: never.
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
    /// When it was revoked, for good.
    revoked_at: Option<String>,
    /// When it last opened something.
    last_used_at: Option<String>,
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

/// A key that was just made in another's place.
#[derive(Serialize, JsonSchema)]
pub struct KeyRotated {
    #[serde(flatten)]
    key: KeyAnswer,
    /// The key itself, shown this once.
    api_key: String,
    /// The old key, which opens until it expires.
    replaces: KeyAnswer,
}

impl Answers for KeyRotated {
    const STATUSES: &'static [(u16, &'static str)] = &[(201, "Made")];
}

impl KeyAnswer {
    fn of(row: api_key::Model, uses: &HashMap<Uuid, DateTime<Utc>>) -> Self {
        Self {
            id: row.id.to_string(),
            description: row.description,
            prefix: row.prefix,
            last_four: row.last_four,
            is_active: row.is_active,
            expires_at: row.expires_at.map(time),
            created_at: time(row.created_at),
            revoked_at: row.revoked_at.map(time),
            last_used_at: uses.get(&row.id).copied().map(time),
        }
    }
}

/// When a key is to expire, in whole microseconds: a time to come, unless it
/// is the one that holds already. Four digits of a year, as RFC 3339 has them.
///
/// # Errors
/// `invalid_value`.
pub(super) fn expiry(
    wanted: Option<DateTime<Utc>>,
    current: Option<DateTime<Utc>>,
) -> ApiResult<Option<DateTime<Utc>>> {
    let wanted = wanted.map(|end| end.trunc_subsecs(6));
    let usable = |end: &DateTime<Utc>| *end > clock::now() && end.year() <= 9999;
    match wanted {
        Some(end) if wanted != current && !usable(&end) => {
            Err(ApiError::at(Code::InvalidValue, "expires_at", "a time to come"))
        }
        _ => Ok(wanted),
    }
}

/// The overlap of a rotation.
///
/// # Errors
/// `invalid_value`.
pub(super) fn overlap(seconds: u32) -> ApiResult<Duration> {
    if seconds > MAX_OVERLAP {
        let detail = format!("from 0 to {MAX_OVERLAP}");
        return Err(ApiError::at(Code::InvalidValue, "overlap_seconds", detail));
    }
    Ok(Duration::from_secs(seconds.into()))
}

/// The organisation's deployment and its key.
async fn found(
    state: &State,
    organisation_id: Uuid,
    deployment: &ResourceId,
    key: &KeyId,
) -> ApiResult<(deployment::Model, api_key::Model)> {
    let deployment = state.engine.store().deployment(organisation_id, deployment.0).await?;
    let key = state.engine.store().api_key(deployment.id, key.0).await?;
    Ok((deployment, key))
}

async fn shown(state: &State, row: api_key::Model) -> ApiResult<Answer<KeyAnswer>> {
    let (uses, revision) = (state.engine.last_uses(vec![row.id]).await?, row.revision);
    Ok(Answer::ok(KeyAnswer::of(row, &uses)).etag(revision))
}

/// Create a key
/// The key itself is shown this once. Wants the tier `full_access`.
#[api_operation(tag = "keys", operation_id = "create_key")]
pub async fn create(
    state: Data<State>,
    manager: FullManager,
    deployment: ResourceId,
    body: Body<NewKey>,
) -> ApiResult<Answer<KeyCreated>> {
    let NewKey { description, expires_at } = body.0;
    let expires_at = expiry(expires_at, None)?;
    let deployment =
        state.engine.store().deployment(manager.organisation_id(), deployment.0).await?;
    let (row, key) = state
        .engine
        .create_key(manager.author(), &deployment, description.into(), expires_at)
        .await?;
    let revision = row.revision;
    let key_answer = KeyAnswer::of(row, &HashMap::new());
    let created = KeyCreated { key: key_answer, api_key: key.reveal().to_owned() };
    Ok(Answer::created(created).etag(revision))
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
    let engine = &state.engine;
    let deployment = engine.store().deployment(manager.organisation_id(), deployment.0).await?;
    let found = engine.store().api_keys(deployment.id, paging.page).await?;
    let uses = engine.last_uses(found.rows.iter().map(|row| row.id).collect()).await?;
    Ok(Answer::ok(Listing::new(&paging, found, |row| KeyAnswer::of(row, &uses))))
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
    let (_, row) = found(&state, manager.organisation_id(), &deployment, &key).await?;
    shown(&state, row).await
}

/// Replace a key
/// Its description, its end and whether it is active; the key itself stays. Wants the tier `full_access`.
#[api_operation(tag = "keys", operation_id = "replace_key")]
pub async fn replace(
    state: Data<State>,
    manager: FullManager,
    deployment: ResourceId,
    key: KeyId,
    if_match: IfMatch,
    body: Body<KeyWrite>,
) -> ApiResult<Answer<KeyAnswer>> {
    let (deployment, row) = found(&state, manager.organisation_id(), &deployment, &key).await?;
    if_match.check(row.revision)?;
    change(&state, manager.author(), &deployment, row, body.0).await
}

/// Change a key
/// A JSON merge patch (RFC 7396) of its description, its end and whether it is active. It holds for the next request; a revoked key cannot be changed. Wants the tier `full_access`.
#[api_operation(tag = "keys", operation_id = "change_key")]
pub async fn patch(
    state: Data<State>,
    manager: FullManager,
    deployment: ResourceId,
    key: KeyId,
    if_match: IfMatch,
    body: Body<MergePatch<KeyWrite>>,
) -> ApiResult<Answer<KeyAnswer>> {
    let (deployment, row) = found(&state, manager.organisation_id(), &deployment, &key).await?;
    if_match.check(row.revision)?;
    let whole = typed(json!({
        "description": row.description,
        "expires_at": row.expires_at.map(time),
        "is_active": row.is_active,
    }))?;
    let whole = body.0.apply(whole).into();
    change(&state, manager.author(), &deployment, row, typed(whole)?).await
}

async fn change(
    state: &State,
    author: &Author,
    deployment: &deployment::Model,
    current: api_key::Model,
    write: KeyWrite,
) -> ApiResult<Answer<KeyAnswer>> {
    let draft = KeyDraft {
        description: write.description.into(),
        expires_at: expiry(write.expires_at, current.expires_at)?,
        is_active: write.is_active,
    };
    let row = state.engine.replace_key(author, deployment, current, draft).await?;
    shown(state, row).await
}

/// Rotate a key
/// Makes a new key, shown this once. The old one opens until the overlap is over, and never longer than it would have. Wants the tier `full_access`.
#[api_operation(tag = "keys", operation_id = "rotate_key")]
pub async fn rotate(
    state: Data<State>,
    manager: FullManager,
    deployment: ResourceId,
    key: KeyId,
    body: Body<KeyRotation>,
) -> ApiResult<Answer<KeyRotated>> {
    let rotation = Rotation {
        overlap: overlap(body.0.overlap_seconds)?,
        label: body.0.description.map(Into::into),
        expires_at: expiry(body.0.expires_at, None)?,
    };
    let (deployment, row) = found(&state, manager.organisation_id(), &deployment, &key).await?;
    let (old, new, key) =
        state.engine.rotate_key(manager.author(), &deployment, row, rotation).await?;
    let uses = state.engine.last_uses(vec![old.id]).await?;
    let revision = new.revision;
    let rotated = KeyRotated {
        key: KeyAnswer::of(new, &uses),
        api_key: key.reveal().to_owned(),
        replaces: KeyAnswer::of(old, &uses),
    };
    Ok(Answer::created(rotated).etag(revision))
}

/// Revoke a key
/// For good: it opens nothing from now on. Revoking again changes nothing.
#[api_operation(tag = "keys", operation_id = "revoke_key")]
pub async fn revoke(
    state: Data<State>,
    manager: FullManager,
    deployment: ResourceId,
    key: KeyId,
) -> ApiResult<Answer<Nothing>> {
    let deployment =
        state.engine.store().deployment(manager.organisation_id(), deployment.0).await?;
    state.engine.revoke_key(manager.author(), &deployment, key.0).await?;
    Ok(Answer::with_status(StatusCode::NO_CONTENT, Nothing {}))
}
