//! Connection pools with the limits that sqlx leaves open.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteError, SqliteJournalMode, SqlitePoolOptions,
    SqliteSynchronous,
};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor, PgConnection};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector, SqlxSqliteConnector};
use secrecy::ExposeSecret;

use super::StoreError;
use crate::config::DatabaseConfig;

/// The connections of a store. On Postgres, writer and reader are one pool.
pub(super) struct Pools {
    pub(super) writer: DatabaseConnection,
    pub(super) reader: DatabaseConnection,
    /// Held while this process uses an SQLite database: the system gives it
    /// back however the process ends.
    pub(super) lock: Option<File>,
}

pub(super) async fn open(config: &DatabaseConfig) -> Result<Pools, StoreError> {
    let opened = if config.url.expose_secret().starts_with("sqlite:") {
        open_sqlite(config).await
    } else {
        open_postgres(config).await.map(|pool| Pools {
            writer: pool.clone(),
            reader: pool,
            lock: None,
        })
    };
    opened.map_err(|error| StoreError::Unavailable(error.to_string()))
}

async fn open_postgres(config: &DatabaseConfig) -> Result<DatabaseConnection, sqlx::Error> {
    let options = PgConnectOptions::from_str(config.url.expose_secret())?
        .application_name("millrace")
        .options([
            ("statement_timeout", config.statement_timeout_ms.to_string()),
            ("idle_in_transaction_session_timeout", config.idle_in_transaction_ms.to_string()),
        ])
        .disable_statement_logging();
    let acquire = Duration::from_millis(config.acquire_timeout_ms);
    let pool = PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(acquire)
        // The rollback below is a round trip of its own, so it is the ping too.
        .test_before_acquire(false)
        .before_acquire(|connection, _| {
            Box::pin(async move {
                // A `begin` cancelled between its send and its answer comes
                // back to the pool inside a transaction that sqlx does not
                // know of; without this, later writes would answer OK and be
                // lost. Outside a transaction it is a no-op with a notice.
                connection.execute("ROLLBACK").await?;
                Ok(true)
            })
        })
        .after_release(move |connection, _| Box::pin(still_answers(connection, acquire)))
        .connect_with(options)
        .await?;
    Ok(SqlxPostgresConnector::from_sqlx_postgres_pool(pool))
}

/// Whether a Postgres connection that comes back to its pool answers within
/// `limit`; if it does not, it is closed.
///
/// sqlx asks it too, but without a limit: a server that hangs, or whose machine
/// is gone, would keep the connection's place in the pool for ever.
///
/// # Errors
/// Then it does not answer, and must not be closed politely.
pub async fn still_answers(
    connection: &mut PgConnection,
    limit: Duration,
) -> Result<bool, sqlx::Error> {
    let answered = tokio::time::timeout(limit, connection.ping()).await;
    answered.map_err(|_| sqlx::Error::PoolTimedOut)?.map(|()| true)
}

/// Whether an SQLite connection that comes back to its pool is outside of
/// transactions; if it is not, it is closed.
///
/// SQLite rolls back by itself what meets a full disk. sqlx, whose own rollback
/// then fails, would go on as if inside the transaction.
///
/// # Errors
/// If the connection's thread has ended.
async fn is_outside(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // After what is under way.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

async fn open_sqlite(config: &DatabaseConfig) -> Result<Pools, sqlx::Error> {
    let acquire = Duration::from_millis(config.acquire_timeout_ms);
    let options = SqliteConnectOptions::from_str(config.url.expose_secret())?
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .disable_statement_logging();
    if let Some(folder) = options.get_filename().parent().filter(|path| *path != Path::new("")) {
        tokio::fs::create_dir_all(folder).await?;
    }
    let lock = lock(options.get_filename())?;
    // One writer: SQLite has one write lock, and waiting in the pool is fair.
    let writer = SqlitePoolOptions::new()
        .max_connections(1)
        .acquire_timeout(acquire)
        .after_release(|connection, _| Box::pin(is_outside(connection)))
        .connect_with(options.clone())
        .await?;
    let reader = SqlitePoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(acquire)
        .connect_with(options.read_only(true).create_if_missing(false))
        .await?;
    let connect = SqlxSqliteConnector::from_sqlx_sqlite_pool;
    Ok(Pools { writer: connect(writer), reader: connect(reader), lock: Some(lock) })
}

/// Two servers on one SQLite database would take each other's work: the first
/// one locks a file beside it.
fn lock(database: &Path) -> std::io::Result<File> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => {
            std::io::Error::other(format!("{} is in use by another server", database.display()))
        }
        TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

/// Whether SQLite refused to delete a row that another refers to: for
/// `ON DELETE RESTRICT` it has another code (1811) than SeaORM knows of foreign
/// keys.
pub(super) fn is_restricted(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.code().as_deref() == Some("1811"))
}

/// Postgres, appendix A: 08 connection exception, 53 insufficient resources, 57
/// operator intervention (shutdown, timeouts), 58 system error, 25P03 idle in
/// transaction, 25006 read-only (a standby, or a server whose keeper finds the
/// disk too full), 40P01 deadlock.
fn is_postgres_outage(code: &str) -> bool {
    ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
        || ["25P03", "25006", "40P01"].contains(&code)
}

/// SQLite: 5 busy, 6 locked, 7 no memory, 10 I/O, 13 full, 14 cannot open, 15
/// locking protocol. These are the low bytes of codes that tell more.
fn is_sqlite_outage(code: &str) -> bool {
    code.parse::<u32>().is_ok_and(|code| [5, 6, 7, 10, 13, 14, 15].contains(&(code & 0xff)))
}

/// Whether the database is away, as opposed to a statement that is wrong.
pub(super) fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(database) => {
            database.code().is_some_and(|code| match database.try_downcast_ref::<SqliteError>() {
                Some(_) => is_sqlite_outage(&code),
                None => is_postgres_outage(&code),
            })
        }
        _ => false,
    }
}
