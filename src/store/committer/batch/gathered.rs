//! What executions found in their sources, and what came of it.

use std::collections::HashMap;

use millrace_entities::{document_ref, execution, file_history};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter};
use uuid::Uuid;

use super::chunks;
use crate::store::StoreError;
use crate::store::committer::{Claim, Ending, Gathered};

/// References to the documents, so that the sweeper never sees a row without
/// them.
pub(super) fn references(
    found: &HashMap<Uuid, (Claim, Gathered)>,
) -> impl Iterator<Item = document_ref::Model> {
    found.iter().flat_map(|(id, (_, gathered))| {
        gathered
            .hashes
            .iter()
            .map(|hash| document_ref::Model { execution_id: *id, hash: hash.clone() })
    })
}

/// What the batch says of files, each once; what an end says is the last word.
pub(super) fn files(
    found: &mut HashMap<Uuid, (Claim, Gathered)>,
    ended: &mut HashMap<Uuid, (Claim, Ending)>,
) -> Vec<file_history::Model> {
    let seen = found.values_mut().flat_map(|(_, gathered)| std::mem::take(&mut gathered.files));
    let done = ended.values_mut().flat_map(|(_, ending)| std::mem::take(&mut ending.files));
    let mut files = HashMap::new();
    for file in seen.chain(done) {
        files.insert((file.workflow_id, file.id), file);
    }
    let mut files: Vec<_> = files.into_values().collect();
    // One order of locking for all lanes and nodes.
    files.sort_unstable_by_key(|file| (file.workflow_id, file.id));
    files
}

/// Gives executions their documents.
pub(super) async fn store(
    transaction: &DatabaseTransaction,
    found: HashMap<Uuid, (Claim, Gathered)>,
) -> Result<(), StoreError> {
    use execution::Column;
    for (id, (_, gathered)) in found {
        execution::Entity::update_many()
            .col_expr(Column::Documents, Expr::value(gathered.documents))
            .col_expr(Column::DocumentsTotal, Expr::value(gathered.documents_total))
            .col_expr(Column::Gathered, Expr::value(true))
            .filter(Column::Id.eq(id))
            .exec(transaction)
            .await?;
    }
    Ok(())
}

pub(super) async fn insert_files(
    transaction: &DatabaseTransaction,
    rows: Vec<file_history::Model>,
) -> Result<(), StoreError> {
    use file_history::Column;
    for chunk in chunks(rows, 11) {
        let known = OnConflict::columns([Column::WorkflowId, Column::Id])
            .update_columns([
                Column::Hash,
                Column::Size,
                Column::ModifiedAt,
                Column::Etag,
                Column::Error,
                Column::ExecutionId,
                Column::ProcessedAt,
            ])
            .to_owned();
        let rows = chunk.into_iter().map(IntoActiveModel::into_active_model);
        file_history::Entity::insert_many(rows)
            .on_conflict(known)
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}
