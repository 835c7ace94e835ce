//! Organisations.

use millrace_entities::{audit_entry, key_use, organisation, platform_key};
use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use super::page::{Page, Paged};
use super::{Store, StoreError};

impl Store {
    /// Makes an organisation and its first platform key.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the slug is taken.
    pub async fn create_organisation(
        &self,
        row: organisation::Model,
        key: platform_key::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                row.into_active_model().insert(tx).await?;
                key.into_active_model().insert(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// The organisation of that slug.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn organisation(&self, slug: &str) -> Result<organisation::Model, StoreError> {
        let slug = slug.to_owned();
        self.read(|db| async move {
            organisation::Entity::find()
                .filter(organisation::Column::Slug.eq(slug))
                .one(&db)
                .await?
                .ok_or(StoreError::NotFound)
        })
        .await
    }

    /// All organisations, in the order of their slugs.
    ///
    /// # Errors
    /// The store's.
    pub async fn organisations(
        &self,
        page: Page,
    ) -> Result<Paged<organisation::Model>, StoreError> {
        self.read(move |db| async move {
            let found = organisation::Entity::find().order_by_asc(organisation::Column::Slug);
            page.of(found, &db).await
        })
        .await
    }

    /// Replaces an organisation by its next revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Stale`] if it is not at the
    /// revision before.
    pub async fn replace_organisation(
        &self,
        row: organisation::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let found = organisation::Entity::find_by_id(row.id).lock(LockType::NoKeyUpdate);
                let current = found.one(tx).await?.ok_or(StoreError::NotFound)?;
                if current.revision + 1 != row.revision {
                    return Err(StoreError::Stale);
                }
                row.into_active_model().reset_all().update(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// Deletes an organisation that has nothing but platform keys, and them.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Referenced`].
    pub async fn delete_organisation(
        &self,
        id: Uuid,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let found = organisation::Entity::find_by_id(id).one(tx).await?;
                let row = found.ok_or(StoreError::NotFound)?;
                let keys = platform_key::Column::OrganisationId.eq(id);
                let ids =
                    platform_key::Entity::find().select_only().column(platform_key::Column::Id);
                let ids = ids.filter(keys.clone()).into_query();
                let uses = key_use::Column::KeyId.in_subquery(ids);
                key_use::Entity::delete_many().filter(uses).exec(tx).await?;
                platform_key::Entity::delete_many().filter(keys).exec(tx).await?;
                row.delete(tx).await?;
                Ok(())
            })
        })
        .await
    }
}
