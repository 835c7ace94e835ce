//! All state that must last, through SeaORM, on SQLite or Postgres.
//!
//! Every query lives here, by aggregate. Nothing else in the server touches a
//! connection.

pub mod audit;
pub mod changes;
pub mod committer;
pub mod connections;
pub mod declared;
pub mod deliveries;
pub mod deployments;
pub mod executions;
pub mod files;
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
pub mod webhooks;
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
use crate::faults::{self, Boundary};
use pools::Pools;
pub use pools::still_answers;

/// Rows in one statement: SQLite takes 32,766 variables, and the widest row has
/// 16 columns.
pub const CHUNK: usize = 2000;

/// Why the store could not do it. The text is for logs only.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is away or full, or did not answer in time. A write may
    /// still have happened.
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
    /// The task that did it panicked. It may have been committed.
    #[error("a store task ended early")]
    Interrupted,
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

/// Longest wait at the stop for connections that are still in use.
const CLOSING: Duration = Duration::from_secs(5);

/// The database, and the runtime its connections live on. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    runtime: Handle,
    lock: Arc<Option<File>>,
    /// How long a caller waits.
    patience: Duration,
    /// How long the work itself may take.
    longest: Duration,
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
        Ok(Self {
            writer,
            reader,
            runtime,
            lock: Arc::new(lock),
            patience: Duration::from_millis(config.database.answer_timeout_ms),
            longest: Duration::from_millis(config.database.transaction_timeout_ms),
        })
    }

    /// The same store for work that nobody waits for: its calls end when the
    /// work does.
    #[must_use]
    pub fn patient(&self) -> Self {
        // The work's own limit comes first.
        Self { patience: self.longest * 2, ..self.clone() }
    }

    /// How long a caller waits for the database.
    pub fn patience(&self) -> Duration {
        self.patience
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
    /// What the work returns; [`StoreError::Unavailable`] after
    /// `database.answer_timeout_ms`.
    pub async fn read<T, F, Fut>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(DatabaseConnection) -> Fut,
        Fut: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        self.done(work(self.reader.clone())).await
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
    /// What the work returns, or the failed commit;
    /// [`StoreError::Unavailable`] after `database.answer_timeout_ms`. Then
    /// the transaction goes on, and may yet be committed.
    pub async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a DatabaseTransaction) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + 'static,
    {
        self.write_at(vec![Boundary::WRITE], work).await
    }

    /// [`Store::write`], saying for the fault points what the commit is of.
    pub(super) async fn write_at<T, F>(
        &self,
        boundaries: Vec<Boundary>,
        work: F,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a DatabaseTransaction) -> BoxFuture<'a, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let writer = self.writer.clone();
        let transaction = async move {
            let transaction = begin(&writer).await?;
            let worked = async {
                let value = work(&transaction).await?;
                faults::before(&boundaries).await?;
                Ok(value)
            };
            match worked.await {
                Ok(value) => {
                    transaction.commit().await?;
                    faults::after(&boundaries).await?;
                    Ok(value)
                }
                Err(error) => {
                    // A full disk ends an SQLite transaction by itself, and a
                    // lost connection any: the caller hears of the cause.
                    if let Err(after) = transaction.rollback().await {
                        tracing::debug!(error = %after, "a failed transaction was gone already");
                    }
                    Err(error)
                }
            }
        };
        self.done(transaction).await
    }

    /// Runs `work` as a task and waits for it, each within its limit.
    ///
    /// A database that hangs, or whose machine is gone, may never answer; the
    /// work ends nevertheless, and the pool tests its connection before
    /// anybody gets it again.
    async fn done<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let limited = tokio::time::timeout(self.longest, work);
        let task = self.runtime.spawn(async move { limited.await.unwrap_or_else(|_| late()) });
        match tokio::time::timeout(self.patience, task).await {
            Ok(ended) => joined(ended),
            Err(_) => late(),
        }
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
        // A database that hangs must not hold up the exit.
        let closing = tokio::time::timeout(CLOSING, self.runtime.spawn(closing)).await;
        if let Ok(Err(error)) = closing {
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

fn late<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable("no answer in time".into()))
}

fn joined<T>(
    outcome: Result<Result<T, StoreError>, tokio::task::JoinError>,
) -> Result<T, StoreError> {
    outcome.unwrap_or(Err(StoreError::Interrupted))
}
