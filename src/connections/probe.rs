//! Whether a connection leads somewhere, without doing anything there.

use std::sync::Arc;
use std::time::Duration;

use opendal::ErrorKind;
use sea_orm::{DbErr, RuntimeErr, sqlx};
use tokio::sync::OwnedSemaphorePermit;

use super::Connection;
use super::object_store::{self, Reach};
use crate::sql_pools::SqlPools;

/// Time for a trial.
const TIME_LIMIT: Duration = Duration::from_secs(10);

const TOO_SLOW: &str = "it cannot be reached, or did not answer in time";

/// What a trial has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    /// It answers.
    Works,
    /// It does not, and why; no address and no secret.
    Fails(&'static str),
    /// This kind cannot be tried.
    Untried,
}

/// Tries a connection. The place is held until the trial has ended, also if
/// its caller has gone.
pub async fn probe(
    connection: Arc<Connection>,
    pools: Arc<SqlPools>,
    reach: Reach,
    place: OwnedSemaphorePermit,
) -> Trial {
    // In a task of its own: a caller that goes away must not cancel a
    // database connection half-way.
    let trial = tokio::spawn(async move {
        let _place = place;
        match connection.as_ref() {
            Connection::Sql { url } => {
                let Ok(pool) = pools.get(url) else { return Trial::Fails("its URL is not valid") };
                outcome(tokio::time::timeout(TIME_LIMIT, pool.ping()).await, |error| sql(&error))
            }
            Connection::ObjectStore { service, options } => {
                let Ok(operator) = object_store::open(service, options, reach) else {
                    return Trial::Fails("its service cannot be used with its options");
                };
                outcome(tokio::time::timeout(TIME_LIMIT, operator.check()).await, |error| {
                    store(&error)
                })
            }
            Connection::Http { .. } | Connection::Llm(_) => Trial::Untried,
        }
    });
    trial.await.unwrap_or(Trial::Fails(TOO_SLOW))
}

fn outcome<E>(
    ended: Result<Result<(), E>, tokio::time::error::Elapsed>,
    reason: impl FnOnce(E) -> &'static str,
) -> Trial {
    match ended {
        Ok(Ok(())) => Trial::Works,
        Ok(Err(error)) => Trial::Fails(reason(error)),
        Err(_) => Trial::Fails(TOO_SLOW),
    }
}

/// By SQLSTATE (Postgres manual, appendix A) or SQLite's result code.
fn sql(error: &DbErr) -> &'static str {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return TOO_SLOW;
    };
    let sqlx::Error::Database(error) = &**error else { return TOO_SLOW };
    match error.code().as_deref() {
        Some("28P01" | "28000") => "the database refuses its user or password",
        Some("3D000") => "there is no database of that name",
        Some("14") => "the file of the database cannot be opened",
        _ => "the database refuses the connection",
    }
}

fn store(error: &opendal::Error) -> &'static str {
    if object_store::is_blocked(error) {
        return "its address is not one that connections may lead to";
    }
    match error.kind() {
        ErrorKind::PermissionDenied => "the object store denies access",
        ErrorKind::NotFound => "the bucket or folder is not there",
        ErrorKind::ConfigInvalid => {
            "the bucket is not there, or the store does not take the connection's options"
        }
        ErrorKind::Unsupported => "its service cannot be used with its options",
        _ => TOO_SLOW,
    }
}
