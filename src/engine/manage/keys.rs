//! Keys of deployments, and what they have in common with platform keys.

use std::time::Duration;

use chrono::{DateTime, Utc};
use millrace_entities::{api_key, deployment};
use uuid::Uuid;

use super::ManageError;
use crate::clock;
use crate::engine::Engine;
use crate::engine::audit::{Action, Author, Subject};
use crate::ids::{Key, KeyKind};
use crate::store::StoreError;

/// What can be written of a deployment's key.
#[derive(Debug, Clone)]
pub struct KeyDraft {
    /// Text for people.
    pub description: String,
    /// From when on it opens nothing.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it opens anything.
    pub is_active: bool,
}

impl KeyDraft {
    /// An active key that never expires.
    pub(super) fn named(description: &str) -> Self {
        Self { description: description.into(), expires_at: None, is_active: true }
    }
}

/// How a key gives way to a new one.
#[derive(Debug, Clone)]
pub struct Rotation {
    /// For how long the old key still opens, if it does not expire before.
    pub overlap: Duration,
    /// Description or name of the new key; the old one's if none.
    pub label: Option<String>,
    /// From when on the new key opens nothing.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Rotation {
    /// When the old key ends.
    pub(super) fn old_ends(
        &self,
        now: DateTime<Utc>,
        expires_at: Option<DateTime<Utc>>,
    ) -> DateTime<Utc> {
        let end = now + self.overlap;
        expires_at.map_or(end, |expires| expires.min(end))
    }
}

/// Whether a key opens something now, whatever its kind.
pub(super) fn is_open(
    is_active: bool,
    expires_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> bool {
    is_active && expires_at.is_none_or(|end| end > now)
}

/// A new key of a deployment, and its row.
pub(super) fn new_key(
    deployment_id: Uuid,
    draft: KeyDraft,
) -> Result<(api_key::Model, Key), StoreError> {
    let key = generate(KeyKind::Deployment)?;
    let row = api_key::Model {
        id: Uuid::now_v7(),
        deployment_id,
        hash: key.hash().0.to_vec(),
        prefix: key.prefix(),
        last_four: key.last_four(),
        description: draft.description,
        is_active: draft.is_active,
        expires_at: draft.expires_at,
        created_at: clock::now(),
        revoked_at: None,
        revision: 1,
    };
    Ok((row, key))
}

pub(super) fn generate(kind: KeyKind) -> Result<Key, StoreError> {
    Key::generate(kind).map_err(|error| StoreError::Fault(error.to_string()))
}

impl Engine {
    /// Makes a key of a deployment.
    ///
    /// # Errors
    /// The store's.
    pub async fn create_key(
        &self,
        author: &Author,
        deployment: &deployment::Model,
        description: String,
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<(api_key::Model, Key), StoreError> {
        let draft = KeyDraft { description, expires_at, is_active: true };
        let (row, key) = new_key(deployment.id, draft)?;
        let entry = author.entry(Action::Create, of_key(deployment, &row), &[]);
        self.store().create_api_key(row.clone(), entry).await?;
        self.refresh(deployment.id).await?;
        Ok((row, key))
    }

    /// Replaces what can be written of a key, if it is still as `current`.
    ///
    /// # Errors
    /// [`ManageError::KeyClosed`] if it is revoked, [`StoreError::Stale`].
    pub async fn replace_key(
        &self,
        author: &Author,
        deployment: &deployment::Model,
        current: api_key::Model,
        draft: KeyDraft,
    ) -> Result<api_key::Model, ManageError> {
        if current.revoked_at.is_some() {
            return Err(ManageError::KeyClosed);
        }
        let row = api_key::Model {
            description: draft.description,
            expires_at: draft.expires_at,
            is_active: draft.is_active,
            revision: current.revision + 1,
            ..current.clone()
        };
        let fields = [
            ("description", current.description != row.description),
            ("expires_at", current.expires_at != row.expires_at),
            ("is_active", current.is_active != row.is_active),
        ];
        let changed = super::changed(&fields);
        let entry = author.entry(Action::Change, of_key(deployment, &row), &changed);
        self.store().replace_api_key(row.clone(), entry).await?;
        self.refresh(deployment.id).await?;
        Ok(row)
    }

    /// Makes a key that takes the place of `current`, which opens until the
    /// overlap is over. Returns the old key as it is now, the new one, and
    /// that in clear.
    ///
    /// # Errors
    /// [`ManageError::KeyClosed`] if the old key opens nothing now,
    /// [`StoreError::Stale`].
    pub async fn rotate_key(
        &self,
        author: &Author,
        deployment: &deployment::Model,
        current: api_key::Model,
        rotation: Rotation,
    ) -> Result<(api_key::Model, api_key::Model, Key), ManageError> {
        let now = clock::now();
        if !is_open(current.is_active, current.expires_at, now) {
            return Err(ManageError::KeyClosed);
        }
        let old = api_key::Model {
            expires_at: Some(rotation.old_ends(now, current.expires_at)),
            revision: current.revision + 1,
            ..current
        };
        let draft = KeyDraft {
            description: rotation.label.unwrap_or_else(|| old.description.clone()),
            expires_at: rotation.expires_at,
            is_active: true,
        };
        let (new, key) = new_key(deployment.id, draft)?;
        let entry = author.entry(Action::Rotate, of_key(deployment, &old), &["expires_at"]);
        self.store().rotate_api_key(old.clone(), new.clone(), entry).await?;
        self.refresh(deployment.id).await?;
        Ok((old, new, key))
    }

    /// Revokes a key of a deployment for good. Revoking again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn revoke_key(
        &self,
        author: &Author,
        deployment: &deployment::Model,
        id: Uuid,
    ) -> Result<(), StoreError> {
        let row = self.store().api_key(deployment.id, id).await?;
        let entry = author.entry(Action::Revoke, of_key(deployment, &row), &[]);
        self.store().revoke_api_key(deployment.id, id, entry).await?;
        self.refresh(deployment.id).await
    }
}

fn of_key<'a>(deployment: &deployment::Model, row: &'a api_key::Model) -> Subject<'a> {
    Subject {
        organisation_id: Some(deployment.organisation_id),
        resource: "key",
        id: row.id,
        name: &row.prefix,
    }
}
