//! Workflows, in the scope of their organisation.

use millrace_entities::{audit_entry, deployment, workflow};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, IntoActiveModel, ModelTrait, QueryFilter,
    QueryOrder, Select,
};
use uuid::Uuid;

use super::declared::undeclared;
use super::deployments::advance;
use super::files;
use super::page::{Page, Paged};
use super::{Store, StoreError};

/// Every query of workflows starts here, in scope.
fn of(organisation_id: Uuid) -> Select<workflow::Entity> {
    workflow::Entity::find().filter(workflow::Column::OrganisationId.eq(organisation_id))
}

impl Store {
    /// Makes a workflow.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn create_workflow(
        &self,
        row: workflow::Model,
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

    /// The organisation's workflow of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn workflow(
        &self,
        organisation_id: Uuid,
        id: Uuid,
    ) -> Result<workflow::Model, StoreError> {
        self.read(move |db| async move {
            let found = of(organisation_id).filter(workflow::Column::Id.eq(id)).one(&db).await?;
            found.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// The organisation's workflows, in the order of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn workflows(
        &self,
        organisation_id: Uuid,
        page: Page,
    ) -> Result<Paged<workflow::Model>, StoreError> {
        self.read(move |db| async move {
            let found = of(organisation_id).order_by_asc(workflow::Column::Name);
            page.of(found, &db).await
        })
        .await
    }

    /// Replaces a workflow if it still has `expected` as its revision, and
    /// makes a new revision of every deployment that serves it. Returns those
    /// deployments.
    ///
    /// # Errors
    /// [`StoreError::Stale`], [`StoreError::NotFound`],
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn replace_workflow(
        &self,
        row: workflow::Model,
        expected: i32,
        entry: audit_entry::Model,
    ) -> Result<Vec<Uuid>, StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let found = of(row.organisation_id).filter(workflow::Column::Id.eq(row.id));
                let current = found.one(tx).await?.ok_or(StoreError::NotFound)?;
                undeclared(current.declared_in)?;
                if current.revision != expected {
                    return Err(StoreError::Stale);
                }
                row.clone().into_active_model().reset_all().update(tx).await?;
                let served = deployment::Entity::find()
                    .filter(deployment::Column::WorkflowId.eq(row.id))
                    .all(tx)
                    .await?;
                let mut changed = Vec::with_capacity(served.len());
                for deployment in served {
                    changed.push(deployment.id);
                    advance(tx, deployment, &row).await?;
                }
                Ok(changed)
            })
        })
        .await
    }

    /// Deletes a workflow that no deployment serves.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Referenced`].
    pub async fn delete_workflow(
        &self,
        organisation_id: Uuid,
        id: Uuid,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let found = of(organisation_id).filter(workflow::Column::Id.eq(id));
                let row = found.one(tx).await?.ok_or(StoreError::NotFound)?;
                undeclared(row.declared_in.clone())?;
                files::forget(tx, id).await?;
                row.delete(tx).await?;
                Ok(())
            })
        })
        .await
    }
}
