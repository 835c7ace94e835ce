//! One load, in one transaction.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::batch::{Batches, Row};
use super::destination::{self, Demand, Target};
use super::failure::{invalid, translate, unavailable};
use super::rows::Source;
use super::table::TableName;
use super::{Mode, fit, ledger};
use crate::faults;
use crate::steps::{StepError, offload};

/// Time for a whole load, once its transaction has begun.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Limits that hold until the transaction ends, so that a pooler in between
/// does not carry them to others. UTC, so that moments mean what they say.
const POSTGRES_LIMITS: &str = "SET LOCAL statement_timeout = '60s'; \
     SET LOCAL lock_timeout = '30s'; \
     SET LOCAL idle_in_transaction_session_timeout = '60s'; \
     SET LOCAL timezone = 'UTC'";

/// Rows on their way into a table.
pub struct Load {
    /// Where to.
    pub table: TableName,
    /// What happens to rows that are there already.
    pub mode: Mode,
    /// The key of an upsert, or nothing.
    pub key: Vec<String>,
    /// Whether to make the table if it is missing.
    pub create_table: bool,
    /// The same whenever this load is repeated.
    pub load_id: String,
    /// What to load.
    pub source: Arc<Source>,
}

/// What a load did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Rows of this load that are in the table.
    pub rows: usize,
    /// Whether an earlier run brought them.
    pub skipped: bool,
}

impl Load {
    /// Loads all rows or none. To be run in a task of its own, to its end.
    ///
    /// # Errors
    /// `destination_unavailable`, `destination_refused`,
    /// `destination_schema_mismatch` or `row_invalid`.
    pub async fn apply(
        self,
        pool: DatabaseConnection,
        cancel: CancellationToken,
    ) -> Result<Loaded, StepError> {
        let transaction = begin(&pool).await?;
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(StepError::cancelled()),
            outcome = tokio::time::timeout(TIME_LIMIT, self.load(&transaction)) => outcome
                .unwrap_or_else(|_| Err(unavailable("the load took too long; load fewer rows"))),
        };
        match outcome {
            Ok(loaded) => {
                let committed = transaction.commit().await;
                committed.map_err(|error| translate(&error, "committing"))?;
                let after = faults::at(faults::LOAD_AFTER_COMMIT).await;
                after.map_err(|_| unavailable("the answer to the commit is lost"))?;
                Ok(loaded)
            }
            Err(failure) => {
                if transaction.rollback().await.is_err() {
                    tracing::debug!("a load's transaction ended with its connection");
                }
                Err(failure)
            }
        }
    }

    async fn load(&self, transaction: &DatabaseTransaction) -> Result<Loaded, StepError> {
        if self.mode == Mode::Insert
            && !ledger::claim(transaction, &self.table, &self.load_id).await?
        {
            return Ok(Loaded { rows: self.source.rows().len(), skipped: true });
        }
        let demand = Demand {
            table: &self.table,
            columns: &self.source.columns,
            key: &self.key,
            create: self.create_table,
        };
        let targets = Arc::new(destination::prepare(transaction, &demand).await?);
        let backend = transaction.get_database_backend();
        let rows = self.convert(backend, Arc::clone(&targets)).await?;
        let loaded = Loaded { rows: rows.len(), skipped: false };
        self.insert(transaction, &targets, rows).await?;
        Ok(loaded)
    }

    /// All rows, checked before the first is written.
    async fn convert(
        &self,
        backend: DbBackend,
        targets: Arc<Vec<Target>>,
    ) -> Result<Vec<Row>, StepError> {
        let (source, key) = (Arc::clone(&self.source), self.key.clone());
        let takes_zeros = backend != DbBackend::Postgres;
        offload(move || {
            let key: Vec<_> = targets.iter().map(|target| key.contains(&target.name)).collect();
            let rows = source.rows().enumerate().map(|(index, row)| {
                let cells = source.columns.iter().zip(&*targets).zip(&key);
                let cells = cells.map(|((column, target), in_key)| {
                    let value = column.of(row).unwrap_or(&Value::Null);
                    fit::cell(takes_zeros, target, value, *in_key).map_err(|expected| {
                        let name = &target.name;
                        invalid(format!("row {index}, column `{name}`: expected {expected}"))
                    })
                });
                Ok::<_, StepError>(Row { index, cells: cells.collect::<Result<_, _>>()? })
            });
            Ok(last_of_each_key(rows.collect::<Result<_, _>>()?, &key))
        })
        .await
    }

    async fn insert(
        &self,
        transaction: &DatabaseTransaction,
        targets: &[Target],
        rows: Vec<Row>,
    ) -> Result<(), StepError> {
        let backend = transaction.get_database_backend();
        let batches = Arc::new(Batches {
            table: self.table.clone(),
            targets: targets.to_vec(),
            mode: self.mode,
            key: self.key.clone(),
        });
        let size = batches.rows(backend);
        let mut rows = rows.into_iter();
        loop {
            let batch: Vec<Row> = rows.by_ref().take(size).collect();
            let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
            let place = format!("rows {} to {}", first.index, last.index);
            let batches = Arc::clone(&batches);
            let built = offload(move || Ok(batches.statement(backend, batch))).await?;
            let done = transaction.execute_raw(built).await;
            done.map_err(|error| translate(&error, &place))?;
        }
    }
}

/// Begins a transaction with the time limits of a load.
async fn begin(pool: &DatabaseConnection) -> Result<DatabaseTransaction, StepError> {
    let failed = |error| translate(&error, "beginning");
    let transaction = crate::store::begin(pool).await.map_err(failed)?;
    if pool.get_database_backend() == DbBackend::Postgres {
        transaction.execute_unprepared(POSTGRES_LIMITS).await.map_err(failed)?;
    }
    Ok(transaction)
}

/// One statement may touch a row only once, and of two rows with one key the
/// last is meant. Without a key all rows stay.
fn last_of_each_key(mut rows: Vec<Row>, key: &[bool]) -> Vec<Row> {
    if !key.contains(&true) {
        return rows;
    }
    let mut seen = HashSet::new();
    rows.reverse();
    rows.retain(|row| {
        let cells = row.cells.iter().zip(key).filter(|(_, in_key)| **in_key);
        let mut text = String::new();
        for (cell, _) in cells {
            // Its quotes show where a text ends.
            _ = write!(text, "{cell:?},");
        }
        seen.insert(text)
    });
    rows.reverse();
    rows
}
