//! What an execution that repeats another one takes over from it.

use std::collections::HashMap;

use millrace_entities::{document_ref, execution, step_run};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use super::accepted::reference;
use crate::store::StoreError;
use crate::store::committer::{Acceptance, CommitError};
use crate::store::retention::has_content;

/// The attempt of outcomes that were taken over: before the first one.
const TAKEN_OVER: i32 = 0;

/// Those that repeat an execution whose content is gone; they are not to be
/// inserted.
///
/// The content of the others' originals stays until the commit: the sweeper
/// passes over rows that are locked. So what the new execution refers to is
/// referred to all the time, and need not be made fresh.
pub(super) async fn expired(
    transaction: &DatabaseTransaction,
    accepted: &[Acceptance],
) -> Result<HashMap<Uuid, CommitError>, StoreError> {
    use execution::Column;
    let mut originals: Vec<Uuid> = accepted.iter().filter_map(|one| one.row.rerun_of).collect();
    if originals.is_empty() {
        return Ok(HashMap::new());
    }
    originals.sort_unstable();
    originals.dedup();
    let there: Vec<Uuid> = execution::Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::Id.is_in(originals))
        .filter(has_content())
        .order_by_asc(Column::Id)
        .lock_shared()
        .into_tuple()
        .all(transaction)
        .await?;
    let is_expired = |row: &&execution::Model| {
        row.rerun_of.is_some_and(|original| there.binary_search(&original).is_err())
    };
    let expired = accepted.iter().map(|one| &one.row).filter(is_expired);
    Ok(expired.map(|row| (row.id, CommitError::Expired)).collect())
}

/// Copies the outputs of the steps before the one that each row begins with;
/// returns the references to them.
pub(super) async fn take_over(
    transaction: &DatabaseTransaction,
    rows: &[execution::Model],
) -> Result<Vec<document_ref::Model>, StoreError> {
    let mut references = Vec::new();
    for row in rows {
        if let (Some(original), Some(from @ 1..)) = (row.rerun_of, row.rerun_from) {
            copy_outputs(transaction, row.id, original, from).await?;
            references.extend(outputs(transaction, row.id).await?);
        }
    }
    Ok(references)
}

async fn copy_outputs(
    transaction: &DatabaseTransaction,
    id: Uuid,
    original: Uuid,
    before: i32,
) -> Result<(), StoreError> {
    use step_run::Column;
    const KEPT: [Column; 9] = [
        Column::DocumentIndex,
        Column::StepIndex,
        Column::StepId,
        Column::Output,
        Column::OutputHash,
        Column::Error,
        Column::StartedAt,
        Column::EndedAt,
        Column::Tries,
    ];
    // One that failed, and its document with it, gave neither.
    let went_on = Column::Error.is_null().or(Column::Output.is_not_null());
    let taken_over = Query::select()
        .expr(Expr::val(id))
        .expr(Expr::val(TAKEN_OVER))
        .columns(KEPT)
        .from(step_run::Entity)
        .and_where(Column::ExecutionId.eq(original))
        .and_where(Column::StepIndex.lt(before))
        .and_where(went_on)
        .to_owned();
    let again =
        OnConflict::columns([Column::ExecutionId, Column::DocumentIndex, Column::StepIndex])
            .do_nothing()
            .to_owned();
    let mut copy = Query::insert();
    copy.into_table(step_run::Entity)
        .columns([Column::ExecutionId, Column::Attempt].into_iter().chain(KEPT))
        .select_from(taken_over)
        .map_err(|error| StoreError::Fault(error.to_string()))?
        .on_conflict(again);
    transaction.execute(&copy).await?;
    Ok(())
}

async fn outputs(
    transaction: &DatabaseTransaction,
    id: Uuid,
) -> Result<Vec<document_ref::Model>, StoreError> {
    let large: Vec<Option<String>> = step_run::Entity::find()
        .select_only()
        .column(step_run::Column::OutputHash)
        .filter(step_run::Column::ExecutionId.eq(id))
        .filter(step_run::Column::OutputHash.is_not_null())
        .distinct()
        .into_tuple()
        .all(transaction)
        .await?;
    Ok(large.iter().filter_map(|hash| reference(id, hash)).collect())
}
