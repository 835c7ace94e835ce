//! Platform keys, in the scope of their organisation.

use millrace_entities::enums::Tier;
use millrace_entities::{audit_entry, organisation, platform_key};
use sea_orm::sea_query::LockType;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, DatabaseTransaction, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select,
};
use uuid::Uuid;

use super::page::{Page, Paged};
use super::{Store, StoreError, audit};
use crate::clock;

/// Every query of platform keys by a tenant starts here, in scope.
fn of(organisation_id: Uuid) -> Select<platform_key::Entity> {
    platform_key::Entity::find().filter(platform_key::Column::OrganisationId.eq(organisation_id))
}

/// The key as it stands. The organisation is locked first: of two changes that
/// would leave it without a key, the second must see the first.
async fn locked(
    tx: &DatabaseTransaction,
    organisation_id: Uuid,
    id: Uuid,
) -> Result<platform_key::Model, StoreError> {
    let organisation = organisation::Entity::find_by_id(organisation_id);
    organisation.lock(LockType::NoKeyUpdate).one(tx).await?.ok_or(StoreError::NotFound)?;
    let found = of(organisation_id).filter(platform_key::Column::Id.eq(id)).one(tx).await?;
    found.ok_or(StoreError::NotFound)
}

/// Fails if the organisation is left without a key of full access that opens
/// now: nobody in it could make one.
async fn keep_one(tx: &DatabaseTransaction, organisation_id: Uuid) -> Result<(), StoreError> {
    use platform_key::Column;
    let open =
        Condition::any().add(Column::ExpiresAt.is_null()).add(Column::ExpiresAt.gt(clock::now()));
    let left = of(organisation_id)
        .filter(Column::Tier.eq(Tier::FullAccess))
        .filter(Column::IsActive.eq(true))
        .filter(open)
        .count(tx)
        .await?;
    if left > 0 { Ok(()) } else { Err(StoreError::LastKey) }
}

/// Replaces a key by its next revision, if it still has the one before.
async fn replace(tx: &DatabaseTransaction, row: platform_key::Model) -> Result<(), StoreError> {
    if locked(tx, row.organisation_id, row.id).await?.revision + 1 != row.revision {
        return Err(StoreError::Stale);
    }
    row.into_active_model().reset_all().update(tx).await?;
    Ok(())
}

impl Store {
    /// All platform keys, each with its organisation, or only those of one
    /// organisation.
    ///
    /// # Errors
    /// The store's.
    pub async fn managers(
        &self,
        organisation_id: Option<Uuid>,
    ) -> Result<Vec<(platform_key::Model, organisation::Model)>, StoreError> {
        self.read(move |db| async move {
            let mut keys = platform_key::Entity::find();
            let mut organisations = organisation::Entity::find();
            if let Some(id) = organisation_id {
                keys = of(id);
                organisations = organisations.filter(organisation::Column::Id.eq(id));
            }
            let keys = keys.all(&db).await?;
            let organisations = organisations.all(&db).await?;
            let owners: std::collections::HashMap<Uuid, organisation::Model> =
                organisations.into_iter().map(|row| (row.id, row)).collect();
            let owned = keys.into_iter().filter_map(|key| {
                let owner = owners.get(&key.organisation_id)?.clone();
                Some((key, owner))
            });
            Ok(owned.collect())
        })
        .await
    }

    /// Makes a platform key.
    ///
    /// # Errors
    /// [`StoreError::Referenced`] if the organisation is gone.
    pub async fn create_platform_key(
        &self,
        key: platform_key::Model,
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

    /// The organisation's platform keys, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn platform_keys(
        &self,
        organisation_id: Uuid,
        page: Page,
    ) -> Result<Paged<platform_key::Model>, StoreError> {
        self.read(move |db| async move {
            let found = of(organisation_id).order_by_asc(platform_key::Column::Id);
            page.of(found, &db).await
        })
        .await
    }

    /// The organisation's platform key of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn platform_key(
        &self,
        organisation_id: Uuid,
        id: Uuid,
    ) -> Result<platform_key::Model, StoreError> {
        self.read(move |db| async move {
            let found =
                of(organisation_id).filter(platform_key::Column::Id.eq(id)).one(&db).await?;
            found.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// Replaces a platform key by its next revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`] if it is not at the
    /// revision before, [`StoreError::LastKey`] if the organisation were left
    /// without a key of full access.
    pub async fn replace_platform_key(
        &self,
        row: platform_key::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        let organisation_id = row.organisation_id;
        self.change(entry, move |tx| {
            Box::pin(async move {
                replace(tx, row).await?;
                keep_one(tx, organisation_id).await
            })
        })
        .await
    }

    /// Makes a platform key that takes another's place, which is replaced by
    /// its next revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Stale`].
    pub async fn rotate_platform_key(
        &self,
        old: platform_key::Model,
        new: platform_key::Model,
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

    /// Revokes a platform key for good. Revoking again changes nothing and
    /// leaves no entry.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::LastKey`].
    pub async fn revoke_platform_key(
        &self,
        organisation_id: Uuid,
        id: Uuid,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let mut key = locked(tx, organisation_id, id).await?;
                if key.revoked_at.is_some() {
                    return Ok(());
                }
                key.is_active = false;
                key.revoked_at = Some(clock::now());
                key.revision += 1;
                key.into_active_model().reset_all().update(tx).await?;
                keep_one(tx, organisation_id).await?;
                audit::record(tx, entry).await
            })
        })
        .await
    }
}
