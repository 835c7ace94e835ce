//! Organisations.

use millrace_entities::{audit_entry, organisation, platform_key};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
};

use super::page::{Page, Paged};
use super::{Store, StoreError, audit};

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
        self.write(move |tx| {
            Box::pin(async move {
                row.into_active_model().insert(tx).await?;
                key.into_active_model().insert(tx).await?;
                audit::record(tx, entry).await
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
}
