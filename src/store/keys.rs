//! Keys: of organisations (platform keys) and of deployments.

use millrace_entities::{api_key, audit_entry, organisation, platform_key};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, Select,
};
use uuid::Uuid;

use super::page::{Page, Paged};
use super::{Store, StoreError, audit};

/// Every query of a deployment's keys starts here, in scope.
fn of(deployment_id: Uuid) -> Select<api_key::Entity> {
    api_key::Entity::find().filter(api_key::Column::DeploymentId.eq(deployment_id))
}

impl Store {
    /// All platform keys, each with its organisation.
    ///
    /// # Errors
    /// The store's.
    pub async fn platform_keys(
        &self,
    ) -> Result<Vec<(platform_key::Model, organisation::Model)>, StoreError> {
        self.read(|db| async move {
            let keys = platform_key::Entity::find().all(&db).await?;
            let organisations = organisation::Entity::find().all(&db).await?;
            let owner = |id: Uuid| organisations.iter().find(|row| row.id == id).cloned();
            let owned = keys.into_iter().filter_map(|key| {
                let organisation = owner(key.organisation_id)?;
                Some((key, organisation))
            });
            Ok(owned.collect())
        })
        .await
    }

    /// Makes a platform key.
    ///
    /// # Errors
    /// The store's.
    pub async fn create_platform_key(
        &self,
        key: platform_key::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                key.into_active_model().insert(tx).await?;
                audit::record(tx, entry).await
            })
        })
        .await
    }

    /// Makes a key of a deployment.
    ///
    /// # Errors
    /// [`StoreError::Referenced`] if the deployment is gone.
    pub async fn create_api_key(
        &self,
        key: api_key::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                key.into_active_model().insert(tx).await?;
                audit::record(tx, entry).await
            })
        })
        .await
    }

    /// The deployment's keys, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn api_keys(
        &self,
        deployment_id: Uuid,
        page: Page,
    ) -> Result<Paged<api_key::Model>, StoreError> {
        self.read(move |db| async move {
            let found = of(deployment_id).order_by_asc(api_key::Column::Id);
            page.of(found, &db).await
        })
        .await
    }

    /// The deployment's key of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn api_key(
        &self,
        deployment_id: Uuid,
        id: Uuid,
    ) -> Result<api_key::Model, StoreError> {
        self.read(move |db| async move {
            let found = of(deployment_id).filter(api_key::Column::Id.eq(id)).one(&db).await?;
            found.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Revokes a key for good. Revoking again changes nothing.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn revoke_api_key(
        &self,
        deployment_id: Uuid,
        id: Uuid,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let found = of(deployment_id).filter(api_key::Column::Id.eq(id)).one(tx).await?;
                let mut key = found.ok_or(StoreError::NotFound)?.into_active_model();
                key.is_active = Set(false);
                key.update(tx).await?;
                audit::record(tx, entry).await
            })
        })
        .await
    }
}
