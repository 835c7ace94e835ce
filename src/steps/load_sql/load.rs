//! One load, in one transaction.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sea_query::{Alias, Expr, ExprTrait, InsertStatement, OnConflict, Query};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::cell::{Cell, CellType};
use super::destination::{self, Demand, Target};
use super::failure::{invalid, translate, unavailable};
use super::rows::Source;
use super::table::TableName;
use super::{Mode, ledger};
use crate::faults;
use crate::steps::{StepError, offload};

/// Time for a whole load, once its transaction has begun.
const TIME_LIMIT: Duration = Duration::from_secs(300);

/// Rows in one statement.
const MAX_BATCH_ROWS: usize = 500;

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

/// A row as it is bound.
struct Row {
    /// Its place in the input.
    index: usize,
    cells: Vec<Cell>,
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
            return Ok(Loaded { rows: self.source.rows.len(), skipped: true });
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

    async fn convert(
        &self,
        backend: DbBackend,
        targets: Arc<Vec<Target>>,
    ) -> Result<Vec<Row>, StepError> {
        let (source, key) = (Arc::clone(&self.source), self.key.clone());
        offload(move || {
            let key: Vec<_> = targets.iter().map(|target| key.contains(&target.name)).collect();
            let rows = source.rows.iter().enumerate().map(|(index, row)| {
                let cells = source.columns.iter().zip(&*targets).zip(&key);
                let cells = cells.map(|((column, target), in_key)| {
                    let value = column.of(row).unwrap_or(&Value::Null);
                    cell(backend, target, value, *in_key).map_err(|expected| {
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
        let size = batch_rows(backend, targets.len());
        let mut rows = rows.into_iter().peekable();
        while rows.peek().is_some() {
            let batch: Vec<Row> = rows.by_ref().take(size).collect();
            let place = match (batch.first(), batch.last()) {
                (Some(first), Some(last)) => format!("rows {} to {}", first.index, last.index),
                _ => String::new(),
            };
            let (table, owned) = (self.table.clone(), targets.to_vec());
            let (mode, key) = (self.mode, self.key.clone());
            let built =
                offload(move || Ok(backend.build(&statement(&table, &owned, mode, &key, batch))));
            let done = transaction.execute_raw(built.await?).await;
            done.map_err(|error| translate(&error, &place))?;
        }
        Ok(())
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

fn cell(
    backend: DbBackend,
    target: &Target,
    value: &Value,
    in_key: bool,
) -> Result<Cell, &'static str> {
    if backend == DbBackend::Postgres && has_zero(value) {
        return Err("text without zero characters, which Postgres cannot hold");
    }
    let cell = target.cell_type.convert(value)?;
    match cell {
        Cell::Null if in_key => Err("a value, because the column is in the key"),
        // Equal numbers must be equal text, to tell rows apart.
        Cell::Text(text) if in_key && target.cell_type == CellType::Decimal => {
            let number = text.parse::<rust_decimal::Decimal>().map_err(|_| "a decimal number")?;
            Ok(Cell::Text(number.normalize().to_string()))
        }
        cell => Ok(cell),
    }
}

fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_zero),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.contains('\0') || has_zero(value))
        }
        _ => false,
    }
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
        seen.insert(cells.map(|(cell, _)| format!("{cell:?}")).collect::<Vec<_>>())
    });
    rows.reverse();
    rows
}

/// Both databases limit the values that one statement binds.
fn batch_rows(backend: DbBackend, columns: usize) -> usize {
    let max_values = match backend {
        DbBackend::Sqlite => 32_766,
        _ => 65_535,
    };
    (max_values / columns.max(1)).clamp(1, MAX_BATCH_ROWS)
}

fn statement(
    table: &TableName,
    targets: &[Target],
    mode: Mode,
    key: &[String],
    rows: Vec<Row>,
) -> InsertStatement {
    let mut insert = Query::insert();
    insert.into_table(table.reference());
    insert.columns(targets.iter().map(|target| Alias::new(&target.name)));
    for row in rows {
        let cells = row.cells.into_iter().zip(targets);
        insert.values_panic(cells.map(|(cell, target)| bound(cell, target)));
    }
    if mode == Mode::Upsert {
        let mut conflict = OnConflict::columns(key.iter().map(Alias::new));
        let others = targets.iter().filter(|target| !key.contains(&target.name));
        let others: Vec<_> = others.map(|target| Alias::new(&target.name)).collect();
        match others.is_empty() {
            true => conflict.do_nothing(),
            false => conflict.update_columns(others),
        };
        insert.on_conflict(conflict);
    }
    insert
}

/// Postgres gets text and casts it to the column's own type, which is exact
/// for every type; SQLite gets its own kinds of values.
fn bound(cell: Cell, target: &Target) -> Expr {
    if let Some(sql_type) = &target.cast {
        return Expr::val(cell.into_text()).cast_as(sql_type.clone());
    }
    match cell {
        Cell::Null => Expr::val(None::<String>),
        Cell::Boolean(value) => Expr::val(value),
        Cell::Integer(value) => Expr::val(value),
        Cell::Float(value) => Expr::val(value),
        Cell::Text(value) => Expr::val(value),
    }
}
