//! What a database's error means for the step. Its own message can quote
//! values and addresses; only codes and names of the schema go out.

use sea_orm::sqlx;
use sea_orm::sqlx::postgres::PgDatabaseError;
use sea_orm::{DbErr, RuntimeErr};

use crate::steps::StepError;

/// The database is away, busy or too slow.
pub fn unavailable(detail: impl Into<String>) -> StepError {
    StepError::transient("destination_unavailable", detail)
}

/// The table is not what the rows need.
pub fn mismatch(detail: impl Into<String>) -> StepError {
    StepError::permanent("destination_schema_mismatch", detail)
}

/// Rows that cannot be loaded.
pub fn invalid(detail: impl Into<String>) -> StepError {
    StepError::permanent("row_invalid", detail)
}

/// The database lets this connection's user not do it.
fn refused(code: &str) -> StepError {
    let detail = format!("the destination denies access or is read-only (code {code})");
    StepError::permanent("destination_refused", detail)
}

/// Translates an error that came while doing `what`.
pub fn translate(error: &DbErr, what: &str) -> StepError {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return unavailable("the destination did not give a connection in time");
    };
    let sqlx::Error::Database(error) = &**error else {
        return unavailable("the connection to the destination failed");
    };
    let code = error.code().unwrap_or_default();
    match error.try_downcast_ref::<PgDatabaseError>() {
        Some(error) => postgres(error, &code, what),
        None => sqlite(&code, what),
    }
}

/// By class of SQLSTATE (Postgres manual, appendix A).
fn postgres(error: &PgDatabaseError, code: &str, what: &str) -> StepError {
    match code.get(..2).unwrap_or_default() {
        "21" | "22" | "23" => {
            let column = error.column().map(|name| format!(", column `{name}`"));
            let constraint = error.constraint().map(|name| format!(", constraint `{name}`"));
            let (column, constraint) = (column.unwrap_or_default(), constraint.unwrap_or_default());
            invalid(format!("{what}: a value was refused (code {code}{column}{constraint})"))
        }
        "28" | "3D" | "25" => refused(code),
        "42" if code == "42501" => refused(code),
        "42" | "3F" | "0A" => {
            mismatch(format!("{what}: the table does not fit the rows (code {code})"))
        }
        _ => unavailable(format!("{what}: the destination is busy or away (code {code})")),
    }
}

/// By primary result code, the low byte of the extended one
/// (<https://www.sqlite.org/rescode.html>).
fn sqlite(code: &str, what: &str) -> StepError {
    match code.parse::<u32>().unwrap_or_default() & 0xff {
        18..=20 => invalid(format!("{what}: a value was refused (code {code})")),
        3 | 8 | 23 => refused(code),
        1 => mismatch(format!("{what}: the table does not fit the rows (code {code})")),
        _ => unavailable(format!("{what}: the destination is busy or away (code {code})")),
    }
}
