//! Executions as callers ask for them, in the scope of their deployment.

use millrace_entities::enums::Status;
use millrace_entities::{execution, step_run};
use sea_orm::sea_query::{Expr, SimpleExpr};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, Select};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::faults::Boundary;

/// Every query of executions by a caller starts here, in scope.
fn of(deployment_id: Uuid) -> Select<execution::Entity> {
    execution::Entity::find().filter(execution::Column::DeploymentId.eq(deployment_id))
}

/// What has not ended; the partial index of `executions` is on this.
pub(super) fn unfinished() -> SimpleExpr {
    execution::Column::Status.is_in([Status::Pending, Status::Executing])
}

impl Store {
    /// The deployment's execution of that id.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn execution(
        &self,
        deployment_id: Uuid,
        id: Uuid,
    ) -> Result<execution::Model, StoreError> {
        self.read(move |db| async move {
            let found = of(deployment_id).filter(execution::Column::Id.eq(id)).one(&db).await?;
            found.ok_or(StoreError::NotFound)
        })
        .await
    }

    /// What was recorded of an execution's steps, by document and step.
    ///
    /// # Errors
    /// The store's.
    pub async fn step_runs(&self, execution_id: Uuid) -> Result<Vec<step_run::Model>, StoreError> {
        self.read(move |db| async move {
            Ok(step_run::Entity::find()
                .filter(step_run::Column::ExecutionId.eq(execution_id))
                .order_by_asc(step_run::Column::DocumentIndex)
                .order_by_asc(step_run::Column::StepIndex)
                .all(&db)
                .await?)
        })
        .await
    }

    /// Remembers that a caller wants the execution stopped, so that the wish
    /// outlives a crash. Returns whether it had not ended.
    ///
    /// # Errors
    /// The store's.
    pub async fn request_cancel(&self, deployment_id: Uuid, id: Uuid) -> Result<bool, StoreError> {
        self.write_at(vec![Boundary::CANCEL], move |tx| {
            Box::pin(async move {
                let asked = execution::Entity::update_many()
                    .col_expr(execution::Column::CancelRequested, Expr::value(true))
                    .filter(execution::Column::Id.eq(id))
                    .filter(execution::Column::DeploymentId.eq(deployment_id))
                    .filter(unfinished())
                    .exec(tx)
                    .await?;
                Ok(asked.rows_affected > 0)
            })
        })
        .await
    }

    /// Those of the node's unfinished executions that are to be stopped.
    ///
    /// # Errors
    /// The store's.
    pub async fn cancel_requests(&self, owner: Uuid) -> Result<Vec<(Uuid, Uuid)>, StoreError> {
        self.read(move |db| async move {
            let wanted = execution::Entity::find()
                .filter(execution::Column::Owner.eq(owner))
                .filter(unfinished())
                .filter(execution::Column::CancelRequested.eq(true))
                .all(&db)
                .await?;
            Ok(wanted.into_iter().map(|row| (row.deployment_id, row.id)).collect())
        })
        .await
    }
}
