//! One batch of writes as one transaction of few statements.

mod accepted;
mod gathered;
mod keys;
mod notices;
mod progress;
mod rerun;
mod runs;

use std::collections::HashMap;

use millrace_entities::enums::Status;
use millrace_entities::execution;
use sea_orm::sea_query::IntoValueTuple;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use uuid::Uuid;

use super::{Claim, CommitError, Store, StoreError, Write};
use crate::faults::Boundary;
use crate::store::executions::unfinished;
use accepted::{Accepted, insert_references, reference};
use notices::{deliveries, insert_deliveries};
use progress::{begin, end, ending_values, insert_steps, step_key};

/// Parameters a statement may carry: SQLite's bound, the smaller one.
const MAX_PARAMETERS: usize = 32_766;

/// Commits all writes or none; then says of each whether its claim held.
pub(super) async fn commit(
    store: &Store,
    writes: Vec<Write>,
) -> Result<Vec<Result<(), CommitError>>, StoreError> {
    let boundaries = boundaries(&writes);
    store.write_at(boundaries, move |transaction| Box::pin(apply(transaction, writes))).await
}

/// Each kind of write in a batch has its own fault points.
fn boundaries(writes: &[Write]) -> Vec<Boundary> {
    let mut found = Vec::new();
    for write in writes {
        let boundary = match write {
            Write::Accept(..) => Boundary::ACCEPT,
            Write::Begin(..) => Boundary::BEGIN,
            Write::Step(..) => Boundary::STEP,
            Write::Gather(..) => Boundary::WRITE,
            Write::End(..) => Boundary::END,
        };
        if !found.contains(&boundary) {
            found.push(boundary);
        }
    }
    found
}

async fn apply(
    transaction: &DatabaseTransaction,
    writes: Vec<Write>,
) -> Result<Vec<Result<(), CommitError>>, StoreError> {
    let checks: Vec<Check> = writes.iter().map(Check::of).collect();
    let mut accepted = Vec::new();
    let mut steps = HashMap::new();
    let mut begun = HashMap::new();
    let mut found = HashMap::new();
    let mut ended = HashMap::new();
    for write in writes {
        match write {
            Write::Accept(acceptance) => accepted.push(*acceptance),
            Write::Step(claim, row) => {
                steps.insert(step_key(&row), (claim, *row));
            }
            Write::Begin(claim, at) => {
                begun.insert(claim.execution_id, (claim, at));
            }
            Write::Gather(claim, gathered) => {
                found.insert(claim.execution_id, (claim, *gathered));
            }
            Write::End(claim, ending) => {
                ended.insert(claim.execution_id, (claim, *ending));
            }
        }
    }
    let Accepted { mut refused, mut references } = accepted::store(transaction, accepted).await?;
    let held = held_claims(transaction, &checks).await?;
    steps.retain(|_, (claim, _)| held.holds(claim));
    found.retain(|_, (claim, _)| held.holds(claim));
    ended.retain(|_, (claim, ending)| held.may_end(claim, ending.status).is_ok());
    references.extend(gathered::references(&found));
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
    let files = gathered::files(&mut found, &mut ended);
    gathered::store(transaction, found).await?;
    gathered::insert_files(transaction, files).await?;
    let ends = ended.iter().map(|(id, (_, ending))| ending_values(*id, ending));
    end(transaction, ends.collect()).await?;
    // With the end, so that neither is there without the other.
    insert_deliveries(transaction, deliveries(&ended)).await?;
    let outcomes = checks.into_iter().map(|check| match check {
        Check::Accept(id) => refused.remove(&id).map_or(Ok(()), Err),
        Check::Held(claim) if held.holds(&claim) => Ok(()),
        Check::Held(_) => Err(CommitError::Lost),
        Check::End(claim, status) => held.may_end(&claim, status),
    });
    Ok(outcomes.collect())
}

/// What must hold for a write to count.
enum Check {
    Accept(Uuid),
    Held(Claim),
    End(Claim, Status),
}

impl Check {
    fn of(write: &Write) -> Self {
        match write {
            Write::Accept(acceptance) => Self::Accept(acceptance.row.id),
            Write::Step(claim, _) | Write::Begin(claim, _) | Write::Gather(claim, _) => {
                Self::Held(*claim)
            }
            Write::End(claim, ending) => Self::End(*claim, ending.status),
        }
    }

    /// The execution whose row is there already.
    fn execution_id(&self) -> Option<Uuid> {
        match self {
            Self::Accept(_) => None,
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
