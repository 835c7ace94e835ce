//! Organisations, which the operator manages.

use millrace_entities::enums::Tier;
use millrace_entities::organisation;
use uuid::Uuid;

use super::platform_keys::{PlatformKeyDraft, new_key};
use crate::clock;
use crate::engine::Engine;
use crate::engine::audit::{Action, Author, Subject};
use crate::ids::Key;
use crate::store::StoreError;

impl Engine {
    /// Makes an organisation and its first platform key, with full access.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the slug is taken.
    pub async fn create_organisation(
        &self,
        author: &Author,
        slug: String,
        name: String,
    ) -> Result<(organisation::Model, Key), StoreError> {
        let row = organisation::Model {
            id: Uuid::now_v7(),
            slug,
            name,
            created_at: clock::now(),
            revision: 1,
        };
        let draft = PlatformKeyDraft {
            name: "first key".to_owned(),
            tier: Tier::FullAccess,
            expires_at: None,
            is_active: true,
        };
        let (stored, key) = new_key(row.id, draft)?;
        let entry = author.entry(Action::Create, of_organisation(&row), &[]);
        self.store().create_organisation(row.clone(), stored, entry).await?;
        self.refresh_managers(row.id).await?;
        Ok((row, key))
    }

    /// Renames an organisation, if it is still as `current`.
    ///
    /// # Errors
    /// [`StoreError::Stale`].
    pub async fn rename_organisation(
        &self,
        author: &Author,
        current: organisation::Model,
        name: String,
    ) -> Result<organisation::Model, StoreError> {
        let changed = super::changed(&[("name", current.name != name)]);
        let row = organisation::Model { name, revision: current.revision + 1, ..current };
        let entry = author.entry(Action::Change, of_organisation(&row), &changed);
        self.store().replace_organisation(row.clone(), entry).await?;
        Ok(row)
    }

    /// Deletes an organisation that has nothing but platform keys. They open
    /// nothing from now on.
    ///
    /// # Errors
    /// [`StoreError::Referenced`] if it has anything else.
    pub async fn delete_organisation(
        &self,
        author: &Author,
        row: &organisation::Model,
    ) -> Result<(), StoreError> {
        let entry = author.entry(Action::Delete, of_organisation(row), &[]);
        self.store().delete_organisation(row.id, entry).await?;
        self.refresh_managers(row.id).await
    }
}

fn of_organisation(row: &organisation::Model) -> Subject<'_> {
    Subject { organisation_id: Some(row.id), resource: "organization", id: row.id, name: &row.slug }
}
