//! The table that rows go into: what it is like, and making it.

use std::collections::BTreeSet;

use sea_orm::sea_query::{Alias, ColumnDef, ColumnType, Index, Table};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, QueryResult, Statement};

use super::cell::CellType;
use super::failure::{mismatch, translate};
use super::fit::Limit;
use super::rows::Column;
use super::table::TableName;
use crate::steps::StepError;

/// Serialises the making of tables on Postgres, where two `CREATE TABLE IF NOT
/// EXISTS` at once fail. The number only has to be the same for all.
const CREATION_LOCK: i64 = 0x6d69_6c6c_7261_6365;

/// A column that is loaded, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in the destination.
    pub name: String,
    /// What is made of the values.
    pub cell_type: CellType,
    /// The type to cast to, as SQL; none on SQLite.
    pub cast: Option<String>,
    /// What it refuses besides.
    pub limit: Option<Limit>,
    /// Whether it can be empty.
    pub nullable: bool,
}

/// What the load needs of its table.
pub struct Demand<'l> {
    /// The table.
    pub table: &'l TableName,
    /// The columns of the rows.
    pub columns: &'l [Column],
    /// The key of an upsert, or nothing.
    pub key: &'l [String],
    /// Whether to make the table if it is missing.
    pub create: bool,
}

/// Whether the table is there.
///
/// # Errors
/// See [`translate`].
pub async fn exists(
    transaction: &DatabaseTransaction,
    table: &TableName,
) -> Result<bool, StepError> {
    Ok(!columns_of(transaction, table).await?.is_empty())
}

/// Waits for others who make tables; holds until the transaction ends.
///
/// # Errors
/// See [`translate`].
pub async fn lock_creation(transaction: &DatabaseTransaction) -> Result<(), StepError> {
    let backend = transaction.get_database_backend();
    if backend == DbBackend::Postgres {
        let sql = "SELECT pg_advisory_xact_lock($1)";
        let lock = Statement::from_sql_and_values(backend, sql, [CREATION_LOCK.into()]);
        let locked = transaction.execute_raw(lock).await;
        locked.map_err(|error| translate(&error, "waiting to make a table"))?;
    }
    Ok(())
}

/// Makes the table if need be, and checks it before the first row.
///
/// # Errors
/// `destination_schema_mismatch` if it is missing and not to be made, lacks a
/// column, or has no unique index on the key.
pub async fn prepare(
    transaction: &DatabaseTransaction,
    demand: &Demand<'_>,
) -> Result<Vec<Target>, StepError> {
    let backend = transaction.get_database_backend();
    check_names(backend, demand)?;
    let mut found = columns_of(transaction, demand.table).await?;
    if found.is_empty() {
        if !demand.create {
            let table = demand.table;
            return Err(mismatch(format!("the table `{table}` is missing; create_table is false")));
        }
        lock_creation(transaction).await?;
        let created = transaction.execute(&creation(backend, demand)).await;
        created.map_err(|error| translate(&error, "making the table"))?;
        found = columns_of(transaction, demand.table).await?;
    }
    let targets = targets(backend, demand, &found)?;
    if !demand.key.is_empty() && !has_unique_key(transaction, demand).await? {
        let (table, key) = (demand.table, demand.key.join(", "));
        let detail = format!("`{table}` has no primary key or unique index on exactly ({key})");
        return Err(mismatch(detail));
    }
    Ok(targets)
}

/// A column as the database describes it.
struct Found {
    name: String,
    sql_type: String,
    /// Postgres: the length or the digits of the type, −1 if there are none.
    modifier: i64,
    not_null: bool,
    /// The database fills it if a row does not.
    filled: bool,
    /// The database alone fills it.
    generated: bool,
}

/// The columns of the table, none if it is missing.
///
/// The type is asked for with modifier −1: that spells `bpchar` and `varchar`
/// without a length, so that a cast cannot cut a value.
async fn columns_of(
    transaction: &DatabaseTransaction,
    table: &TableName,
) -> Result<Vec<Found>, StepError> {
    let sql = match transaction.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT attname::text AS name, format_type(atttypid, -1) AS sql_type, \
             atttypmod::int8 AS modifier, attnotnull::int::int8 AS not_null, \
             (atthasdef OR attidentity <> '')::int::int8 AS filled, \
             (attgenerated <> '' OR attidentity = 'a')::int::int8 AS generated \
             FROM pg_attribute \
             WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"
        }
        // The key that is the number of the row fills itself.
        _ => {
            "SELECT name, type AS sql_type, -1 AS modifier, \"notnull\" AS not_null, \
             dflt_value IS NOT NULL OR (pk > 0 AND lower(type) = 'integer') AS filled, \
             hidden > 0 AS generated FROM pragma_table_xinfo($1, $2)"
        }
    };
    let rows = describe(transaction, table, sql).await?;
    let found = rows.iter().map(|row| {
        let flag = |name: &str| row.try_get::<i64>("", name).map(|value| value != 0);
        Ok(Found {
            name: row.try_get("", "name")?,
            sql_type: row.try_get("", "sql_type")?,
            modifier: row.try_get("", "modifier")?,
            not_null: flag("not_null")?,
            filled: flag("filled")?,
            generated: flag("generated")?,
        })
    });
    found.collect::<Result<_, DbErr>>().map_err(|error| translate(&error, "reading the table"))
}

/// Whether an upsert on the key can tell rows apart. Partial, deferred and
/// expression indexes cannot.
async fn has_unique_key(
    transaction: &DatabaseTransaction,
    demand: &Demand<'_>,
) -> Result<bool, StepError> {
    let backend = transaction.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => {
            "SELECT i.indexrelid::text AS index_name, a.attname::text AS name \
             FROM pg_index i \
             CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, place) \
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
             WHERE i.indrelid = to_regclass($1) AND k.place <= i.indnkeyatts \
             AND i.indisunique AND i.indisvalid AND i.indimmediate \
             AND i.indpred IS NULL AND i.indexprs IS NULL"
        }
        _ => {
            "SELECT l.name AS index_name, coalesce(i.name, '') AS name \
             FROM pragma_index_list($1, $2) l, pragma_index_info(l.name, $2) i \
             WHERE l.\"unique\" AND NOT l.partial \
             UNION ALL \
             SELECT '' AS index_name, name FROM pragma_table_info($1, $2) WHERE pk > 0"
        }
    };
    let mut indexes: Vec<(String, BTreeSet<String>)> = Vec::new();
    for row in describe(transaction, demand.table, sql).await? {
        let read = || Ok((row.try_get("", "index_name")?, row.try_get::<String>("", "name")?));
        let (index, name) =
            read().map_err(|error: DbErr| translate(&error, "reading the table"))?;
        let name = folded(backend, &name);
        match indexes.iter_mut().find(|(known, _)| *known == index) {
            Some((_, names)) => drop(names.insert(name)),
            None => indexes.push((index, BTreeSet::from([name]))),
        }
    }
    let key: BTreeSet<_> = demand.key.iter().map(|name| folded(backend, name)).collect();
    Ok(indexes.iter().any(|(_, names)| *names == key))
}

/// Runs a query on the catalogue: `$1` is the table, `$2` on SQLite its schema.
async fn describe(
    transaction: &DatabaseTransaction,
    table: &TableName,
    sql: &str,
) -> Result<Vec<QueryResult>, StepError> {
    let backend = transaction.get_database_backend();
    let values = match backend {
        DbBackend::Postgres => vec![table.quoted().into()],
        _ => vec![table.name().into(), table.schema().unwrap_or("main").into()],
    };
    let query = Statement::from_sql_and_values(backend, sql, values);
    let rows = transaction.query_all_raw(query).await;
    rows.map_err(|error| translate(&error, "reading the table"))
}

/// SQLite takes names that differ in ASCII case for the same.
fn folded(backend: DbBackend, name: &str) -> String {
    match backend {
        DbBackend::Sqlite => name.to_ascii_lowercase(),
        _ => name.to_owned(),
    }
}

fn check_names(backend: DbBackend, demand: &Demand<'_>) -> Result<(), StepError> {
    let mut seen = BTreeSet::new();
    for column in demand.columns {
        if !seen.insert(folded(backend, &column.name)) {
            let detail = format!("two columns differ from `{}` in case only", column.name);
            return Err(mismatch(detail));
        }
    }
    let missing = |name: &&String| demand.columns.iter().all(|column| column.name != **name);
    match demand.key.iter().find(missing) {
        Some(name) => Err(mismatch(format!("the rows have no field for the key column `{name}`"))),
        None => Ok(()),
    }
}

/// How each column is loaded: the workflow's type goes before the table's, the
/// table's before the one that was inferred.
fn targets(
    backend: DbBackend,
    demand: &Demand<'_>,
    found: &[Found],
) -> Result<Vec<Target>, StepError> {
    let table = demand.table;
    let same = |one: &str, other: &str| folded(backend, one) == folded(backend, other);
    let given = |one: &&Found| demand.columns.iter().any(|column| same(&column.name, &one.name));
    let needy = found.iter().filter(|one| one.not_null && !one.filled && !one.generated);
    if let Some(Found { name, .. }) = needy.into_iter().find(|one| !given(one)) {
        let detail = "the rows have no field for it; add one, or give the column a default";
        return Err(mismatch(format!("column `{name}` of `{table}` cannot be empty: {detail}")));
    }
    let targets = demand.columns.iter().map(|column| {
        let name = &column.name;
        let Some(found) = found.iter().find(|one| same(&one.name, name)) else {
            let detail = format!("`{table}` has no column `{name}`; add it, or list columns");
            return Err(mismatch(detail));
        };
        if found.generated {
            let detail = "the database alone fills it; leave it out, or list columns";
            return Err(mismatch(format!("column `{name}` of `{table}`: {detail}")));
        }
        let (own, cast, limit) = match backend {
            DbBackend::Postgres => {
                let sql_type = found.sql_type.clone();
                (cell_type_of(&sql_type), Some(sql_type), limit_of(found))
            }
            _ => (None, None, None),
        };
        let cell_type = column.fixed.or(own).unwrap_or(column.inferred);
        Ok(Target { name: name.clone(), cell_type, cast, limit, nullable: !found.not_null })
    });
    targets.collect()
}

/// What a column of a Postgres type refuses, or would change without a word.
/// How lengths and digits are in the modifier: Postgres, `varchar.c` and
/// `numeric.c`.
fn limit_of(found: &Found) -> Option<Limit> {
    let modifier = u32::try_from(found.modifier - 4).ok();
    match (found.sql_type.as_str(), modifier) {
        ("smallint", _) => Some(Limit::Whole(i16::MIN.into()..=i16::MAX.into())),
        ("integer", _) => Some(Limit::Whole(i32::MIN.into()..=i32::MAX.into())),
        ("real", _) => Some(Limit::Single),
        ("uuid", _) => Some(Limit::Uuid),
        ("character varying" | "bpchar", Some(most)) => Some(Limit::Characters(most as usize)),
        // A scale below zero, or above the precision, is for the database.
        ("numeric", Some(modifier)) => {
            let (precision, scale) = ((modifier >> 16) & 0xffff, modifier & 0x7ff);
            (scale <= precision).then_some(Limit::Digits { precision, scale })
        }
        _ => None,
    }
}

/// What a column of a Postgres type holds; none where any text may do.
fn cell_type_of(sql_type: &str) -> Option<CellType> {
    match sql_type {
        "smallint" | "integer" | "bigint" => Some(CellType::Integer),
        "numeric" => Some(CellType::Decimal),
        "real" | "double precision" => Some(CellType::Float),
        "boolean" => Some(CellType::Boolean),
        "date" => Some(CellType::Date),
        "timestamp with time zone" | "timestamp without time zone" => Some(CellType::Timestamp),
        "json" | "jsonb" => Some(CellType::Json),
        "text" | "character varying" | "bpchar" => Some(CellType::Text),
        _ => None,
    }
}

/// The type of a column in a table that is made. SQLite has no exact decimal,
/// so those are text there.
fn column_type(backend: DbBackend, cell_type: CellType) -> ColumnType {
    match cell_type {
        CellType::Text => ColumnType::Text,
        CellType::Integer => ColumnType::BigInteger,
        CellType::Decimal if backend == DbBackend::Sqlite => ColumnType::Text,
        CellType::Decimal => ColumnType::Decimal(None),
        CellType::Float => ColumnType::Double,
        CellType::Boolean => ColumnType::Boolean,
        CellType::Date => ColumnType::Date,
        CellType::Timestamp => ColumnType::TimestampWithTimeZone,
        CellType::Json => ColumnType::JsonBinary,
    }
}

fn creation(backend: DbBackend, demand: &Demand<'_>) -> sea_orm::sea_query::TableCreateStatement {
    let mut create = Table::create();
    create.table(demand.table.reference()).if_not_exists();
    for column in demand.columns {
        let cell_type = column_type(backend, column.inferred);
        let mut definition = ColumnDef::new_with_type(Alias::new(&column.name), cell_type);
        if demand.key.contains(&column.name) {
            definition.not_null();
        }
        create.col(definition);
    }
    if !demand.key.is_empty() {
        let mut key = Index::create();
        for name in demand.key {
            key.col(Alias::new(name));
        }
        create.primary_key(&mut key);
    }
    create
}
