//! Connections, in the scope of their organisation. The secrets in their rows
//! are sealed.

use millrace_entities::{audit_entry, connection, deployment, organisation, workflow};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, ModelTrait,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select, Set,
};
use serde_json::Value;
use uuid::Uuid;

use super::page::Paged;
use super::{Store, StoreError, changes};

/// `sealed` of a connection without secrets.
pub const NOTHING_SEALED: &str = "{}";

/// Every query of connections by a tenant starts here, in scope.
fn of(organisation_id: Uuid) -> Select<connection::Entity> {
    connection::Entity::find().filter(connection::Column::OrganisationId.eq(organisation_id))
}

/// Fails if a step of one of the organisation's workflows, or the webhook of
/// one of its deployments, names the connection.
async fn refuse_in_use(
    tx: &DatabaseTransaction,
    organisation_id: Uuid,
    name: &str,
) -> Result<(), StoreError> {
    // The text narrows down, the steps themselves decide.
    let workflows = workflow::Entity::find()
        .filter(workflow::Column::OrganisationId.eq(organisation_id))
        .filter(workflow::Column::Steps.contains(format!("\"{name}\"")))
        .all(tx)
        .await?;
    let names = |step: &Value| step.pointer("/with/connection").is_some_and(|named| named == name);
    let uses = |row: &workflow::Model| {
        serde_json::from_str::<Vec<Value>>(&row.steps).is_ok_and(|steps| steps.iter().any(names))
    };
    let deployments = deployment::Entity::find()
        .filter(deployment::Column::OrganisationId.eq(organisation_id))
        .filter(deployment::Column::Settings.contains(format!("\"{name}\"")))
        .all(tx)
        .await?;
    let tells = |row: &deployment::Model| {
        serde_json::from_str::<Value>(&row.settings).is_ok_and(|settings| {
            let names = ["/webhook/connection", "/source/connection"];
            names.iter().filter_map(|place| settings.pointer(place)).any(|named| named == name)
        })
    };
    match workflows.iter().any(uses) || deployments.iter().any(tells) {
        true => Err(StoreError::Referenced),
        false => Ok(()),
    }
}

impl Store {
    /// Makes a connection.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn create_connection(
        &self,
        row: connection::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                row.into_active_model().insert(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// The organisation's connection of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn connection(
        &self,
        organisation_id: Uuid,
        id: Uuid,
    ) -> Result<connection::Model, StoreError> {
        self.read(move |db| async move {
            let found = of(organisation_id).filter(connection::Column::Id.eq(id)).one(&db).await?;
            found.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// `limit` of the organisation's connections from `offset` on, in the
    /// order of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn connections(
        &self,
        organisation_id: Uuid,
        offset: u64,
        limit: u64,
    ) -> Result<Paged<connection::Model>, StoreError> {
        self.read(move |db| async move {
            let total = of(organisation_id).count(&db).await?;
            let rows = of(organisation_id).order_by_asc(connection::Column::Name);
            Ok(Paged { total, rows: rows.offset(offset).limit(limit).all(&db).await? })
        })
        .await
    }

    /// Replaces a connection if it still has `expected` as its revision. One
    /// that workflows name keeps its name.
    ///
    /// # Errors
    /// [`StoreError::Stale`], [`StoreError::NotFound`],
    /// [`StoreError::Referenced`], [`StoreError::Conflict`] if the name is
    /// taken.
    pub async fn replace_connection(
        &self,
        row: connection::Model,
        expected: i32,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let found = of(row.organisation_id).filter(connection::Column::Id.eq(row.id));
                let current = found.lock_exclusive().one(tx).await?.ok_or(StoreError::NotFound)?;
                if current.revision != expected {
                    return Err(StoreError::Stale);
                }
                if current.name != row.name {
                    refuse_in_use(tx, row.organisation_id, &current.name).await?;
                }
                row.into_active_model().reset_all().update(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// Deletes a connection that neither a workflow nor a webhook names.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Referenced`].
    pub async fn delete_connection(
        &self,
        organisation_id: Uuid,
        id: Uuid,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let found = of(organisation_id).filter(connection::Column::Id.eq(id));
                let row = found.one(tx).await?.ok_or(StoreError::NotFound)?;
                refuse_in_use(tx, organisation_id, &row.name).await?;
                row.delete(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// Every connection with the slug of its organisation, and the id of a
    /// change that they are at least as new as.
    ///
    /// # Errors
    /// The store's.
    pub async fn all_connections(
        &self,
    ) -> Result<(i64, Vec<(connection::Model, String)>), StoreError> {
        self.read(move |db| async move {
            let version = changes::last(&db).await?;
            let organisations = organisation::Entity::find().all(&db).await?;
            let slugs: std::collections::HashMap<_, _> =
                organisations.into_iter().map(|row| (row.id, row.slug)).collect();
            let rows = connection::Entity::find().all(&db).await?;
            let named = rows.into_iter().filter_map(|row| {
                let slug = slugs.get(&row.organisation_id)?.clone();
                Some((row, slug))
            });
            Ok((version, named.collect()))
        })
        .await
    }

    /// Whether any secret is stored.
    ///
    /// # Errors
    /// The store's.
    pub async fn has_sealed(&self) -> Result<bool, StoreError> {
        self.read(move |db| async move {
            let sealed = connection::Column::Sealed.ne(NOTHING_SEALED);
            Ok(connection::Entity::find().filter(sealed).one(&db).await?.is_some())
        })
        .await
    }

    /// Puts the same secrets, sealed anew, in the place of `row`'s. False if
    /// they have changed since it was read.
    ///
    /// # Errors
    /// The store's.
    pub async fn reseal(&self, row: connection::Model, sealed: String) -> Result<bool, StoreError> {
        self.write(move |tx| {
            Box::pin(async move {
                let update = connection::ActiveModel { sealed: Set(sealed), ..Default::default() };
                let updated = connection::Entity::update_many()
                    .set(update)
                    .filter(connection::Column::Id.eq(row.id))
                    .filter(connection::Column::Sealed.eq(row.sealed))
                    .exec(tx)
                    .await?;
                Ok(updated.rows_affected > 0)
            })
        })
        .await
    }
}
