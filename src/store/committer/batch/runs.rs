//! One execution at a time gathers the files of a workflow.

use std::collections::{BTreeMap, HashMap};

use millrace_entities::{execution, idempotency_key, source_run};
use sea_orm::sea_query::{Expr, OnConflict};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect,
};
use uuid::Uuid;

use crate::store::StoreError;
use crate::store::committer::{Acceptance, CommitError};
use crate::store::executions::unfinished;

/// Claims the workflows whose files acceptances gather. Returns, by execution,
/// those whose workflow has a run that has not ended; they are not to be
/// inserted. Those that are `refused` already claim nothing.
///
/// It follows the claims of keys, and nothing of an execution is locked yet:
/// so nobody can wait for somebody who waits for them.
pub(super) async fn claim(
    transaction: &DatabaseTransaction,
    accepted: &[Acceptance],
    refused: &HashMap<Uuid, CommitError>,
) -> Result<HashMap<Uuid, CommitError>, StoreError> {
    let runs = || {
        let open = accepted.iter().filter(|one| !refused.contains_key(&one.row.id));
        open.filter_map(|one| one.run.map(|workflow| (workflow, one)))
    };
    let mut wanted = BTreeMap::new();
    for (workflow_id, one) in runs() {
        wanted.entry(workflow_id).or_insert(one.row.id);
    }
    let mut holders = BTreeMap::new();
    for (workflow_id, execution_id) in wanted {
        let holder = holder(transaction, workflow_id, execution_id).await?;
        holders.insert(workflow_id, holder);
    }
    let mut found = HashMap::new();
    for (workflow_id, one) in runs() {
        if let Some(holder) = holders.get(&workflow_id).filter(|holder| **holder != one.row.id) {
            free_key(transaction, one).await?;
            found.insert(one.row.id, CommitError::Running(*holder));
        }
    }
    Ok(found)
}

/// The execution whose run it is from now on: `wanted`, unless another one has
/// not ended.
async fn holder(
    transaction: &DatabaseTransaction,
    workflow_id: Uuid,
    wanted: Uuid,
) -> Result<Uuid, StoreError> {
    use source_run::{Column, Entity};
    let claim = source_run::Model { workflow_id, execution_id: wanted };
    Entity::insert(claim.into_active_model())
        .on_conflict(OnConflict::column(Column::WorkflowId).do_nothing().to_owned())
        .exec_without_returning(transaction)
        .await?;
    // The claim and its execution are committed together: what the lock waited
    // for is seen by the statements after it, and was not by those before.
    let claim = Entity::find_by_id(workflow_id).lock_exclusive().one(transaction).await?;
    let holder = claim.map_or(wanted, |claim| claim.execution_id);
    if holder == wanted {
        return Ok(wanted);
    }
    let runs: Option<Uuid> = execution::Entity::find()
        .select_only()
        .column(execution::Column::Id)
        .filter(execution::Column::Id.eq(holder))
        .filter(unfinished())
        .order_by_asc(execution::Column::Id)
        .into_tuple()
        .one(transaction)
        .await?;
    if runs.is_some() {
        return Ok(holder);
    }
    Entity::update_many()
        .col_expr(Column::ExecutionId, Expr::value(wanted))
        .filter(Column::WorkflowId.eq(workflow_id))
        .exec(transaction)
        .await?;
    Ok(wanted)
}

/// Its key was claimed before: sent again later, the submission may run.
async fn free_key(
    transaction: &DatabaseTransaction,
    acceptance: &Acceptance,
) -> Result<(), StoreError> {
    use idempotency_key::{Column, Entity};
    let Some(key) = &acceptance.key else { return Ok(()) };
    Entity::delete_many()
        .filter(Column::Hash.eq(key.hash.clone()))
        .filter(Column::ExecutionId.eq(acceptance.row.id))
        .exec(transaction)
        .await?;
    Ok(())
}
