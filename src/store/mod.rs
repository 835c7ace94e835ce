//! All state that must last, through SeaORM, on SQLite or Postgres.
//!
//! Every query lives here, by aggregate. Nothing else in the server touches a
//! connection.

pub mod audit;
pub mod changes;
pub mod committer;
pub mod connections;
pub mod declared;
pub mod deployments;
pub mod executions;
pub mod keys;
pub mod nodes;
pub mod organisations;
pub mod page;
pub mod platform_keys;
mod pools;
pub mod records;
pub mod retention;
pub mod settings;
pub mod summaries;
pub mod usage;
pub mod uses;
pub mod workflows;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use millrace_migration::{Migrator, MigratorTrait};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, RuntimeErr, SqlErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait,
};
use tokio::runtime::Handle;

use crate::config::Config;
use pools::Pools;

/// Rows in one statement: SQLite takes 32,766 variables, and the widest row has
/// 16 columns.
pub const CHUNK: usize = 2000;

/// Why the store could not do it. The text is for logs only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away, or no connection was free in time.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// A name that must be unique is taken.
    #[error("conflict: {0}")]
    Conflict(String),
    /// Something still refers to the row.
    #[error("still referenced")]
    Referenced,
    /// Nobody could manage the organisation any more.
    #[error("the last platform key")]
    LastKey,
    /// A file declares the row; only the file changes it.
    #[error("declared in {0}")]
    Declared(String),
    /// The row changed since it was read.
    #[error("changed in between")]
    Stale,
    /// The row is not there, or not in scope.
    #[error("not found")]
    NotFound,
    /// Anything else: a fault of ours.
    #[error("store: {0}")]
    Fault(String),
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        match error.sql_err() {
            Some(SqlErr::UniqueConstraintViolation(text)) => return Self::Conflict(text),
            Some(SqlErr::ForeignKeyConstraintViolation(_)) => return Self::Referenced,
            _ => {}
        }
        match error {
            DbErr::ConnectionAcquire(_) | DbErr::Conn(_) => Self::Unavailable(error.to_string()),
            DbErr::Exec(RuntimeErr::SqlxError(ref inner))
            | DbErr::Query(RuntimeErr::SqlxError(ref inner))
                if pools::is_outage(inner) =>
            {
                Self::Unavailable(error.to_string())
            }
            DbErr::Exec(RuntimeErr::SqlxError(ref inner)) if pools::is_restricted(inner) => {
                Self::Referenced
            }
            DbErr::RecordNotFound(_) => Self::NotFound,
            _ => Self::Fault(error.to_string()),
        }
    }
}

/// The database, and the runtime its connections live on. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    runtime: Handle,
    lock: Arc<Option<File>>,
}

impl Store {
    /// Connects and brings the schema up to date.
    ///
    /// # Errors
    /// If the database cannot be reached or migrated.
    pub async fn open(config: &Config, runtime: Handle) -> Result<Self, StoreError> {
        let database = config.database.clone();
        let opening = async move {
            let pools = pools::open(&database).await?;
            Migrator::up(&pools.writer, None).await?;
            Ok::<_, StoreError>(pools)
        };
        let Pools { writer, reader, lock } = joined(runtime.spawn(opening).await)?;
        Ok(Self { writer, reader, runtime, lock: Arc::new(lock) })
    }

    /// Which database it is.
    pub fn backend(&self) -> DbBackend {
        self.writer.get_database_backend()
    }

    /// Runs reads.
    ///
    /// They run as a task of the store's own runtime: the connection's I/O
    /// belongs to a runtime that outlives every request, and a dropped
    /// request does not tear a query in the middle.
    ///
    /// # Errors
    /// What the work returns.
    pub async fn read<T, F, Fut>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(DatabaseConnection) -> Fut,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        joined(self.runtime.spawn(work(self.reader.clone())).await)
    }

    /// Runs reads and writes in one transaction, committed if the work
    /// returns `Ok`.
    ///
    /// The transaction is a task of its own: if the caller goes away, it is
    /// still committed or rolled back to its end. A `begin` that is cancelled
    /// half-way could leave a pooled Postgres connection inside a transaction
    /// that nobody ends.
    ///
    /// # Errors
    /// What the work returns, or the failed commit.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a DatabaseTransaction) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let writer = self.writer.clone();
        let transaction = async move {
            let transaction = begin(&writer).await?;
            match work(&transaction).await {
                Ok(value) => {
                    transaction.commit().await?;
                    Ok(value)
                }
                Err(error) => {
                    transaction.rollback().await?;
                    Err(error)
                }
            }
        };
        joined(self.runtime.spawn(transaction).await)
    }

    /// Fails if the database does not answer within `limit`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn ping(&self, limit: Duration) -> Result<(), StoreError> {
        let pinged = self.read(|db| async move { Ok(db.ping().await?) });
        tokio::time::timeout(limit, pinged)
            .await
            .map_err(|_| StoreError::Unavailable("no answer in time".into()))?
    }

    /// Closes all connections, after which every call fails.
    pub async fn close(self) {
        let closing = async move {
            let reader = self.reader.close().await;
            let writer = self.writer.close().await;
            if let Err(error) = reader.and(writer) {
                tracing::debug!(%error, "the database was not closed cleanly");
            }
        };
        if let Err(error) = self.runtime.spawn(closing).await {
            tracing::debug!(%error, "closing the database failed");
        }
        if let Some(Err(error)) = self.lock.as_ref().as_ref().map(File::unlock) {
            tracing::debug!(%error, "the lock is left to the end of the process");
        }
    }
}

/// The one place that begins transactions, to be called only in a task that is
/// never cancelled. SQLite takes its write lock at once, because a read that
/// turns into a write fails with `SQLITE_BUSY_SNAPSHOT`.
///
/// # Errors
/// The database's.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub async fn begin(writer: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    writer.begin_with_options(options).await
}

fn joined<T>(
    outcome: Result<Result<T, StoreError>, tokio::task::JoinError>,
) -> Result<T, StoreError> {
    outcome.unwrap_or_else(|_| Err(StoreError::Fault("a store task ended early".into())))
}
