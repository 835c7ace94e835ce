//! One batch of writes as one transaction of few statements.

use std::collections::HashMap;

use millrace_entities::enums::Status;
use millrace_entities::{document_ref, execution, execution_tag, step_run};
use sea_orm::sea_query::{
    Alias, Expr, ExprTrait, Func, IntoValueTuple, OnConflict, Query, SimpleExpr, TableRef,
    UpdateStatement, ValueTuple,
};
use sea_orm::{
    ActiveEnum, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, IntoActiveModel,
    QueryFilter, QueryOrder, QuerySelect,
};
use serde::Deserialize;
use uuid::Uuid;

use crate::store::executions::unfinished;

use super::{Claim, CommitError, Ending, Store, StoreError, Write};

/// Parameters a statement may carry: SQLite's bound, the smaller one.
const MAX_PARAMETERS: usize = 32_766;

/// Commits all writes or none; then says of each whether its claim held.
pub(super) async fn commit(
    store: &Store,
    writes: Vec<Write>,
) -> Result<Vec<Result<(), CommitError>>, StoreError> {
    store.write(move |transaction| Box::pin(apply(transaction, writes))).await
}

async fn apply(
    transaction: &DatabaseTransaction,
    writes: Vec<Write>,
) -> Result<Vec<Result<(), CommitError>>, StoreError> {
    let checks: Vec<Check> = writes.iter().map(Check::of).collect();
    let mut accepted = Vec::new();
    let mut tags = Vec::new();
    let mut steps = HashMap::new();
    let mut begun = HashMap::new();
    let mut ended = HashMap::new();
    for write in writes {
        match write {
            Write::Accept(row, given) => {
                tags.extend(given.into_iter().map(|tag| tag_of(&row, tag)));
                accepted.push(*row);
            }
            Write::Step(claim, row) => {
                steps.insert(step_key(&row), (claim, *row));
            }
            Write::Begin(claim, at) => {
                begun.insert(claim.execution_id, (claim, at));
            }
            Write::End(claim, ending) => {
                ended.insert(claim.execution_id, (claim, *ending));
            }
        }
    }
    let mut references = Vec::new();
    for row in &accepted {
        references.extend(references_of(row)?);
    }
    insert_accepted(transaction, accepted).await?;
    insert_tags(transaction, tags).await?;
    let held = held_claims(transaction, &checks).await?;
    steps.retain(|_, (claim, _)| held.holds(claim));
    ended.retain(|_, (claim, ending)| held.may_end(claim, ending.status).is_ok());
    for (claim, ending) in ended.values_mut() {
        // What the end says of a step is the last word on it.
        let last = std::mem::take(&mut ending.steps).into_iter();
        steps.extend(last.map(|row| (step_key(&row), (*claim, row))));
    }
    let steps: Vec<_> = steps.into_values().map(|(_, row)| row).collect();
    let outputs = steps.iter().filter_map(|row| reference(row.execution_id, &row.output_hash));
    references.extend(outputs);
    let results = ended.iter();
    references.extend(results.filter_map(|(id, (_, end))| reference(*id, &end.result_hash)));
    insert_references(transaction, references).await?;
    insert_steps(transaction, steps).await?;
    // What ends in this batch need not be seen to begin.
    begun.retain(|id, (claim, _)| held.holds(claim) && !ended.contains_key(id));
    let begun = begun.into_iter().map(|(id, (_, at))| (id, at).into_value_tuple());
    begin(transaction, begun.collect()).await?;
    let ends = ended.iter().map(|(id, (_, ending))| ending_values(*id, ending));
    end(transaction, ends.collect()).await?;
    let outcomes = checks.into_iter().map(|check| match check {
        Check::None => Ok(()),
        Check::Held(claim) if held.holds(&claim) => Ok(()),
        Check::Held(_) => Err(CommitError::Lost),
        Check::End(claim, status) => held.may_end(&claim, status),
    });
    Ok(outcomes.collect())
}

fn tag_of(row: &execution::Model, tag: String) -> execution_tag::Model {
    let organisation_id = row.organisation_id;
    execution_tag::Model { execution_id: row.id, tag, organisation_id }
}

fn step_key(row: &step_run::Model) -> (Uuid, i32, i32) {
    (row.execution_id, row.document_index, row.step_index)
}

/// What must hold for a write to count.
enum Check {
    None,
    Held(Claim),
    End(Claim, Status),
}

impl Check {
    fn of(write: &Write) -> Self {
        match write {
            Write::Accept(..) => Self::None,
            Write::Step(claim, _) | Write::Begin(claim, _) => Self::Held(*claim),
            Write::End(claim, ending) => Self::End(*claim, ending.status),
        }
    }

    fn execution_id(&self) -> Option<Uuid> {
        match self {
            Self::None => None,
            Self::Held(claim) | Self::End(claim, _) => Some(claim.execution_id),
        }
    }
}

/// The owners of the unfinished executions that a batch writes to.
#[derive(Default)]
struct Held(HashMap<Uuid, Owned>);

struct Owned {
    owner: Option<Uuid>,
    attempt: i32,
    cancel_requested: bool,
}

impl Held {
    fn holds(&self, claim: &Claim) -> bool {
        self.0
            .get(&claim.execution_id)
            .is_some_and(|owned| owned.owner == Some(claim.owner) && owned.attempt == claim.attempt)
    }

    fn may_end(&self, claim: &Claim, status: Status) -> Result<(), CommitError> {
        let cancelled = |owned: &Owned| owned.cancel_requested && status != Status::Stopped;
        match self.0.get(&claim.execution_id) {
            Some(owned) if self.holds(claim) && cancelled(owned) => Err(CommitError::Cancelled),
            _ if self.holds(claim) => Ok(()),
            _ => Err(CommitError::Lost),
        }
    }
}

/// Repeating an acceptance whose first commit was in doubt changes nothing.
async fn insert_accepted(
    transaction: &DatabaseTransaction,
    rows: Vec<execution::Model>,
) -> Result<(), StoreError> {
    for chunk in chunks(rows, 23) {
        let rows = chunk.into_iter().map(IntoActiveModel::into_active_model);
        execution::Entity::insert_many(rows)
            .on_conflict(OnConflict::column(execution::Column::Id).do_nothing().to_owned())
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

/// What a submission's documents are stored under.
#[derive(Deserialize)]
struct Stored {
    hash: String,
}

/// References to a submission's documents. They are committed with the row, so
/// that the sweeper never sees one without the other.
fn references_of(row: &execution::Model) -> Result<Vec<document_ref::Model>, StoreError> {
    if row.documents_total == 0 {
        return Ok(Vec::new());
    }
    let stored: Vec<Stored> = serde_json::from_str(&row.documents)
        .map_err(|error| StoreError::Fault(format!("documents of {}: {error}", row.id)))?;
    let of_row = |one: Stored| document_ref::Model { execution_id: row.id, hash: one.hash };
    Ok(stored.into_iter().map(of_row).collect())
}

fn reference(execution_id: Uuid, hash: &Option<String>) -> Option<document_ref::Model> {
    hash.clone().map(|hash| document_ref::Model { execution_id, hash })
}

/// Documents of one content, and repeated writes, refer once.
async fn insert_references(
    transaction: &DatabaseTransaction,
    rows: Vec<document_ref::Model>,
) -> Result<(), StoreError> {
    use document_ref::Column;
    for chunk in chunks(rows, 2) {
        let rows = chunk.into_iter().map(IntoActiveModel::into_active_model);
        let once = OnConflict::columns([Column::ExecutionId, Column::Hash]).do_nothing().to_owned();
        document_ref::Entity::insert_many(rows)
            .on_conflict(once)
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

/// Most executions have none.
async fn insert_tags(
    transaction: &DatabaseTransaction,
    rows: Vec<execution_tag::Model>,
) -> Result<(), StoreError> {
    use execution_tag::Column;
    for chunk in chunks(rows, 3) {
        let known = OnConflict::columns([Column::ExecutionId, Column::Tag]).do_nothing().to_owned();
        execution_tag::Entity::insert_many(
            chunk.into_iter().map(IntoActiveModel::into_active_model),
        )
        .on_conflict(known)
        .exec_without_returning(transaction)
        .await?;
    }
    Ok(())
}

/// Who owns what the batch writes to; the rows stay locked until the commit.
async fn held_claims(
    transaction: &DatabaseTransaction,
    checks: &[Check],
) -> Result<Held, StoreError> {
    use execution::Column;
    let mut ids: Vec<Uuid> = checks.iter().filter_map(Check::execution_id).collect();
    // One order of locking for all lanes and nodes.
    ids.sort_unstable();
    ids.dedup();
    let mut held = Held::default();
    for ids in chunks(ids, 1) {
        let rows: Vec<(Uuid, Option<Uuid>, i32, bool)> = execution::Entity::find()
            .select_only()
            .columns([Column::Id, Column::Owner, Column::Attempt, Column::CancelRequested])
            .filter(Column::Id.is_in(ids))
            .filter(unfinished())
            .order_by_asc(Column::Id)
            .lock_exclusive()
            .into_tuple()
            .all(transaction)
            .await?;
        held.0.extend(rows.into_iter().map(|(id, owner, attempt, cancel_requested)| {
            (id, Owned { owner, attempt, cancel_requested })
        }));
    }
    Ok(held)
}

async fn insert_steps(
    transaction: &DatabaseTransaction,
    rows: Vec<step_run::Model>,
) -> Result<(), StoreError> {
    use step_run::Column;
    for chunk in chunks(rows, 10) {
        let again =
            OnConflict::columns([Column::ExecutionId, Column::DocumentIndex, Column::StepIndex])
                .update_columns([
                    Column::Attempt,
                    Column::Output,
                    Column::OutputHash,
                    Column::Error,
                    Column::StartedAt,
                    Column::EndedAt,
                ])
                .to_owned();
        step_run::Entity::insert_many(chunk.into_iter().map(IntoActiveModel::into_active_model))
            .on_conflict(again)
            .exec_without_returning(transaction)
            .await?;
    }
    Ok(())
}

async fn begin(transaction: &DatabaseTransaction, rows: Vec<ValueTuple>) -> Result<(), StoreError> {
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

fn ending_values(id: Uuid, ending: &Ending) -> ValueTuple {
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

async fn end(transaction: &DatabaseTransaction, rows: Vec<ValueTuple>) -> Result<(), StoreError> {
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

/// Pieces of `rows` that fit into one statement of `width` parameters a row.
fn chunks<T>(mut rows: Vec<T>, width: usize) -> Vec<Vec<T>> {
    let most = (MAX_PARAMETERS / width).max(1);
    let mut pieces = Vec::new();
    while rows.len() > most {
        let later = rows.split_off(most);
        pieces.push(std::mem::replace(&mut rows, later));
    }
    if !rows.is_empty() {
        pieces.push(rows);
    }
    pieces
}
