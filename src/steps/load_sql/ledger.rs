//! The table that lets an insert happen once: a load's id goes in within the
//! transaction that brings its rows, so either both are there or neither.

use sea_orm::sea_query::{Alias, ColumnDef, ColumnType, Expr, OnConflict, Query, Table};
use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::destination;
use super::failure::translate;
use super::table::TableName;
use crate::steps::StepError;

/// Its name, in the schema of the destination.
pub const TABLE: &str = "millrace_loads";

const LOAD_ID: &str = "load_id";
const LOADED_AT: &str = "loaded_at";

/// Claims `load_id`; false if an earlier run committed it. A concurrent run of
/// the same load waits here until the other ends.
///
/// # Errors
/// See [`translate`].
pub async fn claim(
    transaction: &DatabaseTransaction,
    beside: &TableName,
    load_id: &str,
) -> Result<bool, StepError> {
    let table = beside.sibling(TABLE);
    if !destination::exists(transaction, &table).await? {
        destination::lock_creation(transaction).await?;
        let create = Table::create()
            .table(table.reference())
            .if_not_exists()
            .col(ColumnDef::new_with_type(Alias::new(LOAD_ID), ColumnType::Text).primary_key())
            .col(
                ColumnDef::new_with_type(Alias::new(LOADED_AT), ColumnType::TimestampWithTimeZone)
                    .not_null(),
            )
            .to_owned();
        let made = transaction.execute(&create).await;
        made.map_err(|error| translate(&error, "making the table millrace_loads"))?;
    }
    let insert = Query::insert()
        .into_table(table.reference())
        .columns([Alias::new(LOAD_ID), Alias::new(LOADED_AT)])
        .values_panic([Expr::val(load_id), Expr::current_timestamp()])
        .on_conflict(OnConflict::column(Alias::new(LOAD_ID)).do_nothing().to_owned())
        .to_owned();
    let inserted = transaction.execute(&insert).await;
    let inserted = inserted.map_err(|error| translate(&error, "using millrace_loads"))?;
    Ok(inserted.rows_affected() == 1)
}
