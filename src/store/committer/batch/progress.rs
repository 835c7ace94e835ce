//! What is written of executions under way: outcomes of steps, beginnings and
//! ends.

use millrace_entities::enums::Status;
use millrace_entities::{execution, step_run};
use sea_orm::sea_query::{
    Alias, Expr, ExprTrait, Func, OnConflict, Query, SimpleExpr, TableRef, UpdateStatement,
    ValueTuple,
};
use sea_orm::{ActiveEnum, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel};
use uuid::Uuid;

use super::chunks;
use crate::store::StoreError;
use crate::store::committer::Ending;

pub(super) fn step_key(row: &step_run::Model) -> (Uuid, i32, i32) {
    (row.execution_id, row.document_index, row.step_index)
}

pub(super) async fn insert_steps(
    transaction: &DatabaseTransaction,
    rows: Vec<step_run::Model>,
) -> Result<(), StoreError> {
    use step_run::Column;
    for chunk in chunks(rows, 11) {
        let again =
            OnConflict::columns([Column::ExecutionId, Column::DocumentIndex, Column::StepIndex])
                .update_columns([
                    Column::Attempt,
                    Column::Output,
                    Column::OutputHash,
                    Column::Error,
                    Column::StartedAt,
                    Column::EndedAt,
                    Column::Tries,
                ])
                .to_owned();
        step_run::Entity::insert_many(chunk.into_iter().map(IntoActiveModel::into_active_model))
            .on_conflict(again)
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

pub(super) async fn begin(
    transaction: &DatabaseTransaction,
    rows: Vec<ValueTuple>,
) -> Result<(), StoreError> {
    use execution::Column;
    for rows in chunks(rows, 2) {
        let mut update = update_from(rows);
        update
            .value(Column::Status, Status::Executing.to_value())
            .value(Column::StartedAt, first_start("column2"));
        transaction.execute(&update).await?;
    }
    Ok(())
}

pub(super) fn ending_values(id: Uuid, ending: &Ending) -> ValueTuple {
    ValueTuple::Many(vec![
        id.into(),
        ending.status.to_value().into(),
        ending.documents_failed.into(),
        ending.error.clone().into(),
        ending.result.clone().into(),
        ending.result_hash.clone().into(),
        ending.started_at.into(),
        ending.ended_at.into(),
        ending.expires_at.into(),
        ending.steps_total.into(),
        ending.steps_done.into(),
    ])
}

pub(super) async fn end(
    transaction: &DatabaseTransaction,
    rows: Vec<ValueTuple>,
) -> Result<(), StoreError> {
    use execution::Column;
    for rows in chunks(rows, 11) {
        let mut update = update_from(rows);
        update
            .value(Column::Status, given("column2"))
            .value(Column::DocumentsFailed, given("column3"))
            .value(Column::Error, given("column4"))
            .value(Column::Result, given("column5"))
            .value(Column::ResultHash, given("column6"))
            .value(Column::StartedAt, first_start("column7"))
            .value(Column::EndedAt, given("column8"))
            .value(Column::ExpiresAt, given("column9"))
            .value(Column::StepsTotal, given("column10"))
            .value(Column::StepsDone, given("column11"));
        transaction.execute(&update).await?;
    }
    Ok(())
}

/// `UPDATE executions … FROM (VALUES …) AS given WHERE id = given.column1`:
/// both databases name the columns of a values list `column1`, `column2`, ….
fn update_from(rows: Vec<ValueTuple>) -> UpdateStatement {
    Query::update()
        .table(execution::Entity)
        .from(TableRef::ValuesList(rows, Alias::new("given").into()))
        .and_where(Expr::col((execution::Entity, execution::Column::Id)).eq(given("column1")))
        .to_owned()
}

fn given(column: &'static str) -> SimpleExpr {
    Expr::col((Alias::new("given"), Alias::new(column)))
}

/// An execution that is resumed keeps the time of its first start.
fn first_start(column: &'static str) -> SimpleExpr {
    let earlier = Expr::col((execution::Entity, execution::Column::StartedAt));
    Func::coalesce([earlier, given(column)]).into()
}
