//! Deployments and their revisions, in the scope of their organisation.

use std::collections::{HashMap, HashSet};

use millrace_entities::enums::WorkflowKind;
use millrace_entities::{
    api_key, audit_entry, deployment, deployment_revision, former_deployment, key_use,
    organisation, workflow,
};
use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, ModelTrait,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use uuid::Uuid;

use super::declared::undeclared;
use super::page::{Page, Paged};
use super::{Store, StoreError};

/// A deployment as the engine runs it.
#[derive(Debug, Clone)]
pub struct Deployed {
    /// The deployment.
    pub deployment: deployment::Model,
    /// Its current revision.
    pub revision: deployment_revision::Model,
    /// Its organisation's slug.
    pub org_id: String,
    /// Its keys, revoked and expired ones included.
    pub keys: Vec<api_key::Model>,
}

/// Every query of deployments by a tenant starts here, in scope.
fn of(organisation_id: Uuid) -> Select<deployment::Entity> {
    deployment::Entity::find().filter(deployment::Column::OrganisationId.eq(organisation_id))
}

/// Records what `deployment` runs from now on: `workflow`'s steps, under its
/// own settings.
async fn record_revision(
    tx: &DatabaseTransaction,
    deployment: &deployment::Model,
    workflow: &workflow::Model,
) -> Result<(), StoreError> {
    let revision = deployment_revision::Model {
        deployment_id: deployment.id,
        revision: deployment.revision,
        kind: workflow.kind,
        workflow_id: workflow.id,
        steps: workflow.steps.clone(),
        settings: deployment.settings.clone(),
        created_at: deployment.updated_at,
    };
    revision.into_active_model().insert(tx).await?;
    Ok(())
}

/// Makes the deployment's next revision after its workflow changed.
pub(super) async fn advance(
    tx: &DatabaseTransaction,
    mut deployment: deployment::Model,
    workflow: &workflow::Model,
) -> Result<(), StoreError> {
    deployment.revision += 1;
    deployment.updated_at = workflow.updated_at;
    record_revision(tx, &deployment, workflow).await?;
    deployment.into_active_model().reset_all().update(tx).await?;
    Ok(())
}

impl Store {
    /// Makes a deployment, its first revision and its first key.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the workflow is not the organisation's,
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn create_deployment(
        &self,
        row: deployment::Model,
        key: api_key::Model,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let workflow = serving(tx, &row).await?;
                row.clone().into_active_model().insert(tx).await?;
                record_revision(tx, &row, &workflow).await?;
                key.into_active_model().insert(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// The organisation's deployment of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn deployment(
        &self,
        organisation_id: Uuid,
        id: Uuid,
    ) -> Result<deployment::Model, StoreError> {
        self.read(move |db| async move {
            let found = of(organisation_id).filter(deployment::Column::Id.eq(id)).one(&db).await?;
            found.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// The organisation's deployments, each with its workflow's type, in the
    /// order of their names.
    ///
    /// # Errors
    /// The store's.
    pub async fn deployments(
        &self,
        organisation_id: Uuid,
        page: Page,
    ) -> Result<Paged<(deployment::Model, WorkflowKind)>, StoreError> {
        self.read(move |db| async move {
            let found = of(organisation_id).order_by_asc(deployment::Column::ApiName);
            let Paged { total, rows } = page.of(found, &db).await?;
            let ids: HashSet<Uuid> = rows.iter().map(|row| row.workflow_id).collect();
            let named = workflow::Column::Id.is_in(ids);
            let workflows = workflow::Entity::find().filter(named).all(&db).await?;
            let kinds: HashMap<Uuid, WorkflowKind> =
                workflows.into_iter().map(|row| (row.id, row.kind)).collect();
            // A row whose workflow changed between the reads has lost its place here.
            let typed = |row: deployment::Model| Some((*kinds.get(&row.workflow_id)?, row));
            let rows = rows.into_iter().filter_map(typed).map(|(kind, row)| (row, kind)).collect();
            Ok(Paged { total, rows })
        })
        .await
    }

    /// Replaces a deployment, if it still has `expected` as its revision, by
    /// its next revision.
    ///
    /// # Errors
    /// [`StoreError::Stale`], [`StoreError::NotFound`],
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn replace_deployment(
        &self,
        row: deployment::Model,
        expected: i32,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let found = of(row.organisation_id).filter(deployment::Column::Id.eq(row.id));
                let current = found.one(tx).await?.ok_or(StoreError::NotFound)?;
                undeclared(current.declared_in)?;
                if current.revision != expected {
                    return Err(StoreError::Stale);
                }
                let workflow = serving(tx, &row).await?;
                record_revision(tx, &row, &workflow).await?;
                row.into_active_model().reset_all().update(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// Deletes a deployment and its keys. Its revisions and executions stay,
    /// for those still running and for whoever looks back, and so does its
    /// name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_deployment(
        &self,
        organisation_id: Uuid,
        id: Uuid,
        entry: audit_entry::Model,
    ) -> Result<(), StoreError> {
        self.change(entry, move |tx| {
            Box::pin(async move {
                let found = of(organisation_id).filter(deployment::Column::Id.eq(id));
                let row = found.one(tx).await?.ok_or(StoreError::NotFound)?;
                undeclared(row.declared_in.clone())?;
                let keys = api_key::Column::DeploymentId.eq(id);
                let ids = api_key::Entity::find().select_only().column(api_key::Column::Id);
                let ids = ids.filter(keys.clone()).into_query();
                let uses = key_use::Column::KeyId.in_subquery(ids);
                key_use::Entity::delete_many().filter(uses).exec(tx).await?;
                api_key::Entity::delete_many().filter(keys).exec(tx).await?;
                let former = former_deployment::Model {
                    id,
                    organisation_id,
                    api_name: row.api_name.clone(),
                    deleted_at: crate::clock::now(),
                };
                former.into_active_model().insert(tx).await?;
                row.delete(tx).await?;
                Ok(())
            })
        })
        .await
    }

    /// Every deployment as the engine runs it, or only those of `ids`, which
    /// are at most [`super::CHUNK`].
    ///
    /// # Errors
    /// The store's.
    pub async fn deployed(&self, ids: Option<Vec<Uuid>>) -> Result<Vec<Deployed>, StoreError> {
        self.read(move |db| async move {
            let mut deployments = deployment::Entity::find();
            let mut revisions = deployment_revision::Entity::find();
            let mut keys = api_key::Entity::find();
            if let Some(ids) = ids {
                let named = deployment_revision::Column::DeploymentId.is_in(ids.clone());
                revisions = revisions.filter(named);
                keys = keys.filter(api_key::Column::DeploymentId.is_in(ids.clone()));
                deployments = deployments.filter(deployment::Column::Id.is_in(ids));
            }
            let current = Expr::exists(
                Query::select()
                    .expr(Expr::val(1))
                    .from(deployment::Entity)
                    .and_where(
                        Expr::col((deployment::Entity, deployment::Column::Id))
                            .equals(deployment_revision::Column::DeploymentId.as_column_ref()),
                    )
                    .and_where(
                        Expr::col((deployment::Entity, deployment::Column::Revision))
                            .equals(deployment_revision::Column::Revision.as_column_ref()),
                    )
                    .to_owned(),
            );
            let deployments = deployments.all(&db).await?;
            let revisions = revisions.filter(current).all(&db).await?;
            let keys = keys.all(&db).await?;
            let organisations = organisation::Entity::find().all(&db).await?;
            Ok(assemble(deployments, revisions, keys, organisations))
        })
        .await
    }

    /// What a deployment ran at a revision.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn revision(
        &self,
        deployment_id: Uuid,
        revision: i32,
    ) -> Result<deployment_revision::Model, StoreError> {
        self.read(move |db| async move {
            deployment_revision::Entity::find_by_id((deployment_id, revision))
                .one(&db)
                .await?
                .ok_or(StoreError::NotFound)
        })
        .await
    }
}

/// Joins by id what four plain reads brought. A deployment that changed between
/// the reads has no matching revision here; its change brings it again.
fn assemble(
    deployments: Vec<deployment::Model>,
    revisions: Vec<deployment_revision::Model>,
    keys: Vec<api_key::Model>,
    organisations: Vec<organisation::Model>,
) -> Vec<Deployed> {
    let slugs: HashMap<Uuid, String> =
        organisations.into_iter().map(|row| (row.id, row.slug)).collect();
    let mut revisions: HashMap<Uuid, deployment_revision::Model> =
        revisions.into_iter().map(|row| (row.deployment_id, row)).collect();
    let mut keys_of: HashMap<Uuid, Vec<api_key::Model>> = HashMap::new();
    for key in keys {
        keys_of.entry(key.deployment_id).or_default().push(key);
    }
    let whole = deployments.into_iter().filter_map(|deployment| {
        let revision = revisions.remove(&deployment.id)?;
        let org_id = slugs.get(&deployment.organisation_id)?.clone();
        let keys = keys_of.remove(&deployment.id).unwrap_or_default();
        Some(Deployed { deployment, revision, org_id, keys })
    });
    whole.collect()
}

/// The workflow that `row` names, if it is its organisation's.
async fn serving(
    tx: &DatabaseTransaction,
    row: &deployment::Model,
) -> Result<workflow::Model, StoreError> {
    workflow::Entity::find_by_id(row.workflow_id)
        .filter(workflow::Column::OrganisationId.eq(row.organisation_id))
        .one(tx)
        .await?
        .ok_or(StoreError::NotFound)
}
