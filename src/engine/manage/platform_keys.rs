//! Platform keys. What is changed here holds for the next request.

use chrono::{DateTime, Utc};
use millrace_entities::enums::Tier;
use millrace_entities::platform_key;
use uuid::Uuid;

use super::ManageError;
use super::keys::{Rotation, generate, is_open};
use crate::clock;
use crate::engine::Engine;
use crate::engine::audit::{Action, Author, Subject};
use crate::ids::{Key, KeyKind};
use crate::store::StoreError;

/// What can be written of a platform key.
#[derive(Debug, Clone)]
pub struct PlatformKeyDraft {
    /// Name for people.
    pub name: String,
    /// What it may do.
    pub tier: Tier,
    /// From when on it opens nothing.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it opens anything.
    pub is_active: bool,
}

/// A new platform key, and its row.
pub(super) fn new_key(
    organisation_id: Uuid,
    draft: PlatformKeyDraft,
) -> Result<(platform_key::Model, Key), StoreError> {
    let key = generate(KeyKind::Platform)?;
    let row = platform_key::Model {
        id: Uuid::now_v7(),
        organisation_id,
        hash: key.hash().0.to_vec(),
        prefix: key.prefix(),
        last_four: key.last_four(),
        name: draft.name,
        tier: draft.tier,
        is_active: draft.is_active,
        expires_at: draft.expires_at,
        created_at: clock::now(),
        revoked_at: None,
        revision: 1,
    };
    Ok((row, key))
}

impl Engine {
    /// Makes a platform key.
    ///
    /// # Errors
    /// [`StoreError::Referenced`] if the organisation is gone.
    pub async fn create_platform_key(
        &self,
        author: &Author,
        organisation_id: Uuid,
        draft: PlatformKeyDraft,
    ) -> Result<(platform_key::Model, Key), StoreError> {
        let (row, key) = new_key(organisation_id, draft)?;
        let entry = author.entry(Action::Create, of_platform_key(&row), &[]);
        self.store().create_platform_key(row.clone(), entry).await?;
        self.refresh_managers(organisation_id).await?;
        Ok((row, key))
    }

    /// Replaces what can be written of a platform key, if it is still as
    /// `current`.
    ///
    /// # Errors
    /// [`ManageError::KeyClosed`] if it is revoked, [`StoreError::Stale`],
    /// [`StoreError::LastKey`] if nobody could manage the organisation then.
    pub async fn replace_platform_key(
        &self,
        author: &Author,
        current: platform_key::Model,
        draft: PlatformKeyDraft,
    ) -> Result<platform_key::Model, ManageError> {
        if current.revoked_at.is_some() {
            return Err(ManageError::KeyClosed);
        }
        let row = platform_key::Model {
            name: draft.name,
            tier: draft.tier,
            expires_at: draft.expires_at,
            is_active: draft.is_active,
            revision: current.revision + 1,
            ..current.clone()
        };
        let fields = [
            ("name", current.name != row.name),
            ("tier", current.tier != row.tier),
            ("expires_at", current.expires_at != row.expires_at),
            ("is_active", current.is_active != row.is_active),
        ];
        let changed = super::changed(&fields);
        let entry = author.entry(Action::Change, of_platform_key(&row), &changed);
        self.store().replace_platform_key(row.clone(), entry).await?;
        self.refresh_managers(row.organisation_id).await?;
        Ok(row)
    }

    /// Makes a platform key of the same tier that takes the place of
    /// `current`, which opens until the overlap is over. Returns the old key
    /// as it is now, the new one, and that in clear.
    ///
    /// # Errors
    /// [`ManageError::KeyClosed`] if the old key opens nothing now,
    /// [`StoreError::Stale`].
    pub async fn rotate_platform_key(
        &self,
        author: &Author,
        current: platform_key::Model,
        rotation: Rotation,
    ) -> Result<(platform_key::Model, platform_key::Model, Key), ManageError> {
        let now = clock::now();
        if !is_open(current.is_active, current.expires_at, now) {
            return Err(ManageError::KeyClosed);
        }
        let old = platform_key::Model {
            expires_at: Some(rotation.old_ends(now, current.expires_at)),
            revision: current.revision + 1,
            ..current
        };
        let draft = PlatformKeyDraft {
            name: rotation.label.unwrap_or_else(|| old.name.clone()),
            tier: old.tier,
            expires_at: rotation.expires_at,
            is_active: true,
        };
        let (new, key) = new_key(old.organisation_id, draft)?;
        let entry = author.entry(Action::Rotate, of_platform_key(&old), &["expires_at"]);
        self.store().rotate_platform_key(old.clone(), new.clone(), entry).await?;
        self.refresh_managers(old.organisation_id).await?;
        Ok((old, new, key))
    }

    /// Revokes a platform key for good. Revoking again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::LastKey`] if nobody could
    /// manage the organisation then.
    pub async fn revoke_platform_key(
        &self,
        author: &Author,
        organisation_id: Uuid,
        id: Uuid,
    ) -> Result<(), StoreError> {
        let row = self.store().platform_key(organisation_id, id).await?;
        let entry = author.entry(Action::Revoke, of_platform_key(&row), &[]);
        self.store().revoke_platform_key(organisation_id, id, entry).await?;
        self.refresh_managers(organisation_id).await
    }
}

fn of_platform_key(row: &platform_key::Model) -> Subject<'_> {
    Subject {
        organisation_id: Some(row.organisation_id),
        resource: "platform-key",
        id: row.id,
        name: &row.name,
    }
}
