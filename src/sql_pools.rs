//! Connection pools of the databases that steps load into.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sea_orm::DatabaseConnection;
use sea_orm::sqlx::ConnectOptions;
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPool, Postgres};
use sea_orm::sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqlitePool};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::store::still_answers;

/// Pools that are kept; beyond it the one unused for longest is let go.
const MAX_POOLS: usize = 64;

/// Connections to one Postgres server. SQLite has one: it has one writer.
const MAX_CONNECTIONS: u32 = 4;

/// Time to get a connection, new or from the pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for a connection that comes back to its pool to show that it answers.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// An unused connection is closed after this time, so that an unused pool
/// holds none.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A connection is replaced after this time.
const MAX_LIFETIME: Duration = Duration::from_secs(30 * 60);

/// Time to wait for SQLite's one writer.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no pool for an address. It says nothing of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// Neither `sqlite:` nor `postgres:`.
    #[error("only sqlite:// and postgres:// databases can be used")]
    UnknownKind,
    /// The URL cannot be understood.
    #[error("the address of the database is not a valid URL")]
    InvalidUrl,
}

/// Pools by the address of their database. A pool connects when it is first
/// used.
#[derive(Debug, Default)]
pub struct SqlPools {
    /// The most recently used last; keyed by the hash of the URL, because the
    /// URL holds a password.
    pools: Mutex<Vec<(blake3::Hash, DatabaseConnection)>>,
}

impl SqlPools {
    /// The pool of the database at `url`; must be called within a runtime.
    ///
    /// # Errors
    /// See [`PoolError`]; whether the database answers is not known yet.
    pub fn get(&self, url: &SecretString) -> Result<DatabaseConnection, PoolError> {
        let key = blake3::hash(url.expose_secret().as_bytes());
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = match pools.iter().position(|(known, _)| *known == key) {
            Some(place) => pools.remove(place).1,
            None => open(url)?,
        };
        if pools.len() >= MAX_POOLS {
            // Whoever still uses it keeps it open until they are done.
            pools.remove(0);
        }
        pools.push((key, pool.clone()));
        Ok(pool)
    }

    /// Lets go of every pool whose URL is not among `urls`. Whoever still uses
    /// one keeps it open until they are done.
    pub fn retain(&self, urls: &[SecretString]) {
        let known: HashSet<_> =
            urls.iter().map(|url| blake3::hash(url.expose_secret().as_bytes())).collect();
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|(key, _)| known.contains(key));
    }
}

/// Whether a pool could be made of a URL.
///
/// # Errors
/// See [`PoolError`].
pub fn check(url: &SecretString) -> Result<(), PoolError> {
    let text = url.expose_secret();
    let parsed = match text.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => SqliteConnectOptions::from_str(text).map(drop),
        // sqlx tells the log of parameters that it does not know.
        Some("postgres" | "postgresql") => {
            return Url::parse(text).map(drop).map_err(|_| PoolError::InvalidUrl);
        }
        _ => return Err(PoolError::UnknownKind),
    };
    parsed.map_err(|_| PoolError::InvalidUrl)
}

/// Pools are made through sqlx: SeaORM's own way puts the URL into a trace
/// span.
fn open(url: &SecretString) -> Result<DatabaseConnection, PoolError> {
    let text = url.expose_secret();
    match text.split_once(':').map(|(scheme, _)| scheme) {
        Some("sqlite") => {
            let options =
                SqliteConnectOptions::from_str(text).map_err(|_| PoolError::InvalidUrl)?;
            let options = options.busy_timeout(BUSY_TIMEOUT).disable_statement_logging();
            let pool: SqlitePool = pool_options::<Sqlite>(1).connect_lazy_with(options);
            Ok(pool.into())
        }
        Some("postgres" | "postgresql") => {
            let options = PgConnectOptions::from_str(text).map_err(|_| PoolError::InvalidUrl)?;
            let has_password =
                Url::parse(text).map_err(|_| PoolError::InvalidUrl)?.password().is_some();
            // Without one sqlx takes the password of this process's own
            // environment, which is not for the tenant's server.
            let options = if has_password { options } else { options.password("") };
            let options = options.application_name("millrace").disable_statement_logging();
            let pool: PgPool = pool_options::<Postgres>(MAX_CONNECTIONS)
                .after_release(|connection, _| Box::pin(still_answers(connection, RELEASE_TIMEOUT)))
                .connect_lazy_with(options);
            Ok(pool.into())
        }
        _ => Err(PoolError::UnknownKind),
    }
}

fn pool_options<DB: sea_orm::sqlx::Database>(max_connections: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .max_lifetime(MAX_LIFETIME)
}
