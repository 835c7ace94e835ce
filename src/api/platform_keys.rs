//! Platform keys of an organisation. Whoever may read may list them; to make
//! and change them wants the tier `full_access`.

use std::collections::HashMap;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::api_operation;
use chrono::{DateTime, Utc};
use millrace_entities::{enums, platform_key};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use super::answer::{Answer, Answers, time};
use super::auth::{FullManager, OrganisationManager};
use super::body::{Body, Text, typed};
use super::keys::{default_overlap, expiry, overlap, yes};
use super::page::{Listing, Paging};
use super::schemas::{MergePatch, Name, Time, name_text};
use super::{IfMatch, Nothing, ResourceId, State};
use crate::engine::audit::Author;
use crate::engine::manage::keys::Rotation;
use crate::engine::manage::platform_keys::PlatformKeyDraft;
use crate::error::ApiResult;

/// What a platform key may do; each tier includes the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Look.
    Read,
    /// Make and change, but for keys.
    ReadWrite,
    /// Delete, and manage keys.
    FullAccess,
}

impl From<enums::Tier> for Tier {
    fn from(tier: enums::Tier) -> Self {
        match tier {
            enums::Tier::Read => Self::Read,
            enums::Tier::ReadWrite => Self::ReadWrite,
            enums::Tier::FullAccess => Self::FullAccess,
        }
    }
}

impl From<Tier> for enums::Tier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Read => Self::Read,
            Tier::ReadWrite => Self::ReadWrite,
            Tier::FullAccess => Self::FullAccess,
        }
    }
}

/// A platform key as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlatformKeyWrite {
    /// Name for people, at most 200 characters.
    #[schemars(with = "Name")]
    name: Text,
    /// What it may do.
    tier: Tier,
    /// From when on it opens nothing (RFC 3339); absent: never.
    #[serde(default)]
    #[schemars(with = "Option<Time>")]
    expires_at: Option<DateTime<Utc>>,
    /// Whether it opens anything. It can be switched on again.
    #[serde(default = "yes")]
    is_active: bool,
}

impl PlatformKeyWrite {
    /// What is to be, in place of a key that expires at `current`.
    ///
    /// # Errors
    /// `invalid_value`.
    pub(super) fn draft(self, current: Option<DateTime<Utc>>) -> ApiResult<PlatformKeyDraft> {
        Ok(PlatformKeyDraft {
            name: name_text(self.name)?,
            tier: self.tier.into(),
            expires_at: expiry(self.expires_at, current)?,
            is_active: self.is_active,
        })
    }
}

/// How a platform key gives way to a new one.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlatformKeyRotation {
    /// For how long the old key still opens, if it does not expire before.
    #[serde(default = "default_overlap")]
    #[schemars(range(min = 0, max = 604_800))]
    overlap_seconds: u32,
    /// Name for people; that of the old key if absent.
    #[serde(default)]
    #[schemars(with = "Option<Name>")]
    name: Option<Text>,
    /// From when on the new key opens nothing (RFC 3339); absent: never.
    #[serde(default)]
    #[schemars(with = "Option<Time>")]
    expires_at: Option<DateTime<Utc>>,
}

/// A platform key as it can be seen again.
#[derive(Serialize, JsonSchema)]
pub struct PlatformKeyAnswer {
    id: String,
    name: String,
    tier: Tier,
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

impl Answers for PlatformKeyAnswer {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "The key, without the key itself")];
}

/// A platform key that was just made.
#[derive(Serialize, JsonSchema)]
pub struct PlatformKeyCreated {
    #[serde(flatten)]
    key: PlatformKeyAnswer,
    /// The key itself, shown this once.
    platform_key: String,
}

impl Answers for PlatformKeyCreated {
    const STATUSES: &'static [(u16, &'static str)] = &[(201, "Made")];
}

/// A platform key that was just made in another's place.
#[derive(Serialize, JsonSchema)]
pub struct PlatformKeyRotated {
    #[serde(flatten)]
    key: PlatformKeyAnswer,
    /// The key itself, shown this once.
    platform_key: String,
    /// The old key, which opens until it expires.
    replaces: PlatformKeyAnswer,
}

impl Answers for PlatformKeyRotated {
    const STATUSES: &'static [(u16, &'static str)] = &[(201, "Made")];
}

impl PlatformKeyAnswer {
    fn of(row: platform_key::Model, uses: &HashMap<Uuid, DateTime<Utc>>) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            tier: row.tier.into(),
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

async fn shown(state: &State, row: platform_key::Model) -> ApiResult<Answer<PlatformKeyAnswer>> {
    let (uses, revision) = (state.engine.last_uses(vec![row.id]).await?, row.revision);
    Ok(Answer::ok(PlatformKeyAnswer::of(row, &uses)).etag(revision))
}

/// Makes a platform key of the organisation.
pub(super) async fn make(
    state: &State,
    author: &Author,
    organisation_id: Uuid,
    write: PlatformKeyWrite,
) -> ApiResult<Answer<PlatformKeyCreated>> {
    let draft = write.draft(None)?;
    let (row, key) = state.engine.create_platform_key(author, organisation_id, draft).await?;
    let revision = row.revision;
    let shown = PlatformKeyAnswer::of(row, &HashMap::new());
    let created = PlatformKeyCreated { key: shown, platform_key: key.reveal().to_owned() };
    Ok(Answer::created(created).etag(revision))
}

/// Create a platform key
/// The key itself is shown this once. Wants the tier `full_access`.
#[api_operation(tag = "platform keys", operation_id = "create_platform_key")]
pub async fn create(
    state: Data<State>,
    manager: FullManager,
    body: Body<PlatformKeyWrite>,
) -> ApiResult<Answer<PlatformKeyCreated>> {
    make(&state, manager.author(), manager.organisation_id(), body.0).await
}

/// List platform keys
/// Never the keys themselves.
#[api_operation(tag = "platform keys", operation_id = "list_platform_keys")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    paging: Paging,
) -> ApiResult<Answer<Listing<PlatformKeyAnswer>>> {
    let engine = &state.engine;
    let found = engine.store().platform_keys(manager.organisation_id(), paging.page).await?;
    let uses = engine.last_uses(found.rows.iter().map(|row| row.id).collect()).await?;
    Ok(Answer::ok(Listing::new(&paging, found, |row| PlatformKeyAnswer::of(row, &uses))))
}

/// Get a platform key
/// Never the key itself.
#[api_operation(tag = "platform keys", operation_id = "get_platform_key")]
pub async fn get(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<PlatformKeyAnswer>> {
    let row = state.engine.store().platform_key(manager.organisation_id(), id.0).await?;
    shown(&state, row).await
}

/// Replace a platform key
/// Its name, its tier, its end and whether it is active; the key itself stays. Wants the tier `full_access`.
#[api_operation(tag = "platform keys", operation_id = "replace_platform_key")]
pub async fn replace(
    state: Data<State>,
    manager: FullManager,
    id: ResourceId,
    if_match: IfMatch,
    body: Body<PlatformKeyWrite>,
) -> ApiResult<Answer<PlatformKeyAnswer>> {
    let row = state.engine.store().platform_key(manager.organisation_id(), id.0).await?;
    if_match.check(row.revision)?;
    change(&state, manager.author(), row, body.0).await
}

/// Change a platform key
/// A JSON merge patch (RFC 7396) of its name, its tier, its end and whether it is active. It holds for the next request; a revoked key cannot be changed, and of the open keys of tier `full_access` the last one cannot be taken away. Wants the tier `full_access`.
#[api_operation(tag = "platform keys", operation_id = "change_platform_key")]
pub async fn patch(
    state: Data<State>,
    manager: FullManager,
    id: ResourceId,
    if_match: IfMatch,
    body: Body<MergePatch<PlatformKeyWrite>>,
) -> ApiResult<Answer<PlatformKeyAnswer>> {
    let row = state.engine.store().platform_key(manager.organisation_id(), id.0).await?;
    if_match.check(row.revision)?;
    let whole = typed(json!({
        "name": row.name,
        "tier": Tier::from(row.tier),
        "expires_at": row.expires_at.map(time),
        "is_active": row.is_active,
    }))?;
    let whole = body.0.apply(whole).into();
    change(&state, manager.author(), row, typed(whole)?).await
}

async fn change(
    state: &State,
    author: &Author,
    current: platform_key::Model,
    write: PlatformKeyWrite,
) -> ApiResult<Answer<PlatformKeyAnswer>> {
    let draft = write.draft(current.expires_at)?;
    let row = state.engine.replace_platform_key(author, current, draft).await?;
    shown(state, row).await
}

/// Rotate a platform key
/// Makes a new key of the same tier, shown this once. The old one opens until the overlap is over, and never longer than it would have. Wants the tier `full_access`.
#[api_operation(tag = "platform keys", operation_id = "rotate_platform_key")]
pub async fn rotate(
    state: Data<State>,
    manager: FullManager,
    id: ResourceId,
    body: Body<PlatformKeyRotation>,
) -> ApiResult<Answer<PlatformKeyRotated>> {
    let rotation = Rotation {
        overlap: overlap(body.0.overlap_seconds)?,
        label: body.0.name.map(name_text).transpose()?,
        expires_at: expiry(body.0.expires_at, None)?,
    };
    let row = state.engine.store().platform_key(manager.organisation_id(), id.0).await?;
    let (old, new, key) = state.engine.rotate_platform_key(manager.author(), row, rotation).await?;
    let uses = state.engine.last_uses(vec![old.id]).await?;
    let revision = new.revision;
    let rotated = PlatformKeyRotated {
        key: PlatformKeyAnswer::of(new, &uses),
        platform_key: key.reveal().to_owned(),
        replaces: PlatformKeyAnswer::of(old, &uses),
    };
    Ok(Answer::created(rotated).etag(revision))
}

/// Revoke a platform key
/// For good: it opens nothing from now on. Revoking again changes nothing. The last open key of tier `full_access` cannot be revoked.
#[api_operation(tag = "platform keys", operation_id = "revoke_platform_key")]
pub async fn revoke(
    state: Data<State>,
    manager: FullManager,
    id: ResourceId,
) -> ApiResult<Answer<Nothing>> {
    let owner = manager.organisation_id();
    state.engine.revoke_platform_key(manager.author(), owner, id.0).await?;
    Ok(Answer::with_status(StatusCode::NO_CONTENT, Nothing {}))
}
