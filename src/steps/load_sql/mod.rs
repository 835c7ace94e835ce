//! `load_sql`: loads rows into a table of SQLite or Postgres.

mod batch;
mod cell;
mod destination;
mod failure;
mod fit;
mod ledger;
mod load;
mod rows;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use indexmap::IndexMap;
use schemars::JsonSchema;
use sea_orm::DatabaseConnection;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::cell::CellType;
use self::load::Load;
use self::table::TableName;
use super::{ParamError, Reference, Step, StepContext, StepError, StepKind, offload};
use crate::connections::{Connection, Kind};

/// Parameters of `load_sql`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of a connection of kind `sql`.
    connection: String,
    /// `table` or `schema.table`; case counts.
    table: String,
    /// What happens to rows that are there already.
    #[serde(default)]
    mode: Mode,
    /// The columns that tell rows apart; only for `upsert`. An existing table
    /// needs a primary key or unique index on exactly these.
    #[serde(default)]
    key: Vec<String>,
    /// The columns to load. By default all fields of all rows, with types
    /// taken from the table, or from the values if the table is made.
    #[serde(default)]
    columns: Option<IndexMap<String, ColumnParams>>,
    /// Whether to make the table if it is missing.
    #[serde(default = "yes")]
    create_table: bool,
}

/// What happens to rows that are there already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Rows are added, once for each execution, document and step, also if the
    /// step runs again. The table `millrace_loads` beside the destination
    /// keeps account.
    #[default]
    Insert,
    /// A row with the same key is replaced; of two in one load the last wins.
    Upsert,
}

/// One column to load.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ColumnParams {
    /// What the column holds.
    #[serde(rename = "type")]
    cell_type: CellType,
    /// JSON pointer (RFC 6901) into the row; by default the field with the
    /// column's name.
    from: Option<String>,
}

const fn yes() -> bool {
    true
}

/// The step kind `load_sql`.
pub struct LoadSql {
    connection: String,
    table: TableName,
    mode: Mode,
    key: Vec<String>,
    columns: Option<IndexMap<String, ColumnParams>>,
    create_table: bool,
}

impl StepKind for LoadSql {
    const NAME: &'static str = "load_sql";
    const SUMMARY: &'static str = "Loads rows into a table of SQLite or Postgres.";
    const REFERENCE: Reference = Reference {
        about: "All rows or none. The input is an array of objects, one object, or an object whose `rows` is such an array.

All rows are checked against the table before the first is written: columns that are missing or that the database alone fills, values that a column needs, the kind of each value and, on Postgres, lengths, digits and ranges. Numbers are never rounded. The error names the row, counted from 0, and the column.

Limits: 1000 columns, 300 seconds a load.",
        output: r#"`{"table", "rows_loaded", "skipped"}`; `skipped` is true if an earlier run of the same load had brought the rows."#,
        errors: &[
            ("connection_unknown", "there is no connection of that name and kind"),
            ("connection_unusable", "the connection cannot be used as it is written"),
            ("row_invalid", "a value does not fit its column; the detail names both"),
            ("destination_schema_mismatch", "the table does not fit the rows"),
            ("destination_refused", "the database denies access"),
            ("destination_unavailable", "the database is away, busy or too slow; tried again"),
        ],
        example: r#"{"connections": {"warehouse": {"kind": "sql", "url": "sqlite://{folder}/warehouse.db?mode=rwc"}},
 "with": {"connection": "warehouse", "table": "invoices", "mode": "upsert", "key": ["number"]},
 "input": [{"number": "A-1", "total": 12.5}, {"number": "A-2", "total": 3}],
 "output": {"table": "invoices", "rows_loaded": 2, "skipped": false}}"#,
    };
    const CONNECTION: Option<Kind> = Some(Kind::Sql);
    type Params = Params;

    fn build(params: Params) -> Result<Self, ParamError> {
        let table =
            TableName::parse(&params.table).map_err(|detail| ParamError::at("table", detail))?;
        if table.name() == ledger::TABLE {
            let detail = format!("`{}` is where inserts are kept account of", ledger::TABLE);
            return Err(ParamError::at("table", detail));
        }
        check_key(&params)?;
        for (name, column) in params.columns.iter().flatten() {
            table::check_identifier(name)
                .map_err(|detail| ParamError::at(format!("columns.{name}"), detail))?;
            if column.from.as_ref().is_some_and(|from| !from.is_empty() && !from.starts_with('/')) {
                let detail = "a JSON pointer starts with `/`";
                return Err(ParamError::at(format!("columns.{name}.from"), detail));
            }
        }
        if params.columns.as_ref().is_some_and(IndexMap::is_empty) {
            return Err(ParamError::at("columns", "name a column, or leave `columns` out"));
        }
        Ok(Self {
            connection: params.connection,
            table,
            mode: params.mode,
            key: params.key,
            columns: params.columns,
            create_table: params.create_table,
        })
    }
}

fn check_key(params: &Params) -> Result<(), ParamError> {
    let refuse = |detail: &str| Err(ParamError::at("key", detail));
    match params.mode {
        Mode::Insert if !params.key.is_empty() => refuse("only `mode: upsert` takes a key"),
        Mode::Upsert if params.key.is_empty() => refuse("`mode: upsert` needs a key"),
        _ => Ok(()),
    }?;
    for (index, name) in params.key.iter().enumerate() {
        let path = || format!("key[{index}]");
        table::check_identifier(name).map_err(|detail| ParamError::at(path(), detail))?;
        if params.key.iter().take(index).any(|earlier| earlier == name) {
            return Err(ParamError::at(path(), "this column is in the key already"));
        }
        if params.columns.as_ref().is_some_and(|columns| !columns.contains_key(name)) {
            return Err(ParamError::at(path(), "this column is not in `columns`"));
        }
    }
    Ok(())
}

#[async_trait]
impl Step for LoadSql {
    async fn run(&self, context: &StepContext) -> Result<Value, StepError> {
        let pool = self.pool(context)?;
        let (input, columns) = (Arc::clone(&context.input), self.columns.clone());
        let source = offload(move || rows::read(&input, columns.as_ref())).await?;
        if source.rows().len() == 0 {
            return Ok(self.output(0, false));
        }
        let load = Load {
            table: self.table.clone(),
            mode: self.mode,
            key: self.key.clone(),
            create_table: self.create_table,
            load_id: context.scope.stable_id(),
            source: Arc::new(source),
        };
        // In a task of its own: a transaction whose beginning is cancelled
        // would stay open in the pool.
        let loading = tokio::spawn(load.apply(pool, context.cancel.clone()));
        let loaded = tokio::select! {
            loaded = loading => loaded.unwrap_or_else(|_| Err(StepError::crashed()))?,
            () = context.cancel.cancelled() => return Err(StepError::cancelled()),
        };
        Ok(self.output(loaded.rows, loaded.skipped))
    }
}

impl LoadSql {
    fn pool(&self, context: &StepContext) -> Result<DatabaseConnection, StepError> {
        let connections = &context.services.connections;
        let found = connections.get(&context.scope.org_id, &self.connection);
        let Some(Connection::Sql { url }) = found.as_deref() else {
            let detail = format!("there is no connection `{}` of kind sql", self.connection);
            return Err(StepError::permanent("connection_unknown", detail));
        };
        context.services.sql.get(url).map_err(|error| {
            let detail = format!("connection `{}`: {error}", self.connection);
            StepError::permanent("connection_unusable", detail)
        })
    }

    fn output(&self, rows: usize, skipped: bool) -> Value {
        json!({"table": self.table.to_string(), "rows_loaded": rows, "skipped": skipped})
    }
}
