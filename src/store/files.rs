//! What is known of the files of sources, in the scope of their workflow.

use millrace_entities::file_history::{Column, Entity, Model};
use millrace_entities::source_run;
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use uuid::Uuid;

use super::{Store, StoreError};

impl Store {
    /// Those of the files that are known; at most [`super::CHUNK`] are asked
    /// for.
    ///
    /// # Errors
    /// The store's.
    pub async fn known_files(
        &self,
        workflow_id: Uuid,
        ids: Vec<Uuid>,
    ) -> Result<Vec<Model>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.read(move |db| async move {
            let found = Entity::find().filter(Column::WorkflowId.eq(workflow_id));
            Ok(found.filter(Column::Id.is_in(ids)).all(&db).await?)
        })
        .await
    }
}

/// Forgets the files of a workflow that is deleted, and who gathered them.
pub(super) async fn forget(tx: &DatabaseTransaction, workflow_id: Uuid) -> Result<(), StoreError> {
    Entity::delete_many().filter(Column::WorkflowId.eq(workflow_id)).exec(tx).await?;
    source_run::Entity::delete_by_id(workflow_id).exec(tx).await?;
    Ok(())
}
