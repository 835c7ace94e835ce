//! Keys of deployments, in the scope of their deployment.

use millrace_entities::{api_key, audit_entry};
use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, Select,
};
use uuid::Uuid;

use super::page::{Page, Paged};
use super::{Store, StoreError, audit};
use crate::clock;

/// Every query of a deployment's keys starts here, in scope.
fn of(deployment_id: Uuid) -> Select<api_key::Entity> {
    api_key::Entity::find().filter(api_key::Column::DeploymentId.eq(deployment_id))
}

/// The key as it stands, locked until the transaction ends. SQLite has no row
/// locks and drops this; its one writer needs none.
async fn locked(
    tx: &DatabaseTransaction,
    deployment_id: Uuid,
    id: Uuid,
) -> Result<api_key::Model, StoreError> {
    let found = of(deployment_id).filter(api_key::Column::Id.eq(id));
    found.lock(LockType::NoKeyUpdate).one(tx).await?.ok_or(StoreError::NotFound)
}

/// Replaces a key by its next revision, if it still has the one before.
async fn replace(tx: &DatabaseTransaction, row: api_key::Model) -> Result<(), StoreError> {
    if locked(tx, row.deployment_id, row.id).await?.revision + 1 != row.revision {
        return Err(StoreError::Stale);
    }
    row.into_active_model().reset_all().update(tx).await?;
    Ok(())
}

impl Store {
    /// Makes a key of a deployment.
    ///
    /// # Errors
    /// [`StoreError::Referenced`] if the deployment is gone.
    pub async fn create_api_key(
        &self,
        key: api_key::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                key.into_active_model().insert(tx).await?;
                Ok(())
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

    /// Replaces a key by its next revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], or [`StoreError::Stale`] if it is not at the
    /// revision before.
    pub async fn replace_api_key(
        &self,
        row: api_key::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| Box::pin(async move { replace(tx, row).await })).await
    }

    /// Makes a key that takes another's place, which is replaced by its next
    /// revision.
    ///
    /// # Errors
    /// Those of [`Self::replace_api_key`].
    pub async fn rotate_api_key(
        &self,
        old: api_key::Model,
        new: api_key::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                replace(tx, old).await?;
                new.into_active_model().insert(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// Revokes a key for good. Revoking again changes nothing and leaves no
    /// entry.
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
                let mut key = locked(tx, deployment_id, id).await?;
                if key.revoked_at.is_some() {
                    return Ok(());
                }
                key.is_active = false;
                key.revoked_at = Some(clock::now());
                key.revision += 1;
                key.into_active_model().reset_all().update(tx).await?;
                audit::record(tx, entry).await
            })
        })
        .await
    }
}
