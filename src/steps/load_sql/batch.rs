//! Rows into statements.

use std::fmt::Write;

use sea_orm::sea_query::{Alias, Expr, OnConflict, Query};
use sea_orm::{DbBackend, Statement, Value};

use super::Mode;
use super::cell::Cell;
use super::destination::Target;
use super::table::{TableName, quoted};

/// Rows of one statement on Postgres.
const MAX_ARRAY_ROWS: usize = 4_096;

/// Rows of one statement elsewhere.
const MAX_VALUES_ROWS: usize = 500;

/// A row as it is bound.
#[derive(Debug)]
pub struct Row {
    /// Its place in the input.
    pub index: usize,
    /// One for each target.
    pub cells: Vec<Cell>,
}

/// How all batches of one load are written.
#[derive(Debug, Clone)]
pub struct Batches {
    /// Where to.
    pub table: TableName,
    /// The columns, in the order of the cells.
    pub targets: Vec<Target>,
    /// What happens to rows that are there already.
    pub mode: Mode,
    /// The key of an upsert.
    pub key: Vec<String>,
}

impl Batches {
    /// Rows of one statement. SQLite limits the values that one binds.
    pub fn rows(&self, backend: DbBackend) -> usize {
        match backend {
            DbBackend::Postgres => MAX_ARRAY_ROWS,
            _ => (32_766 / self.targets.len().max(1)).clamp(1, MAX_VALUES_ROWS),
        }
    }

    /// The statement that brings these rows.
    pub fn statement(&self, backend: DbBackend, rows: Vec<Row>) -> Statement {
        match backend {
            DbBackend::Postgres => self.arrays(&rows),
            _ => self.values(backend, rows),
        }
    }

    /// Each column is bound as one array, which costs a tenth of binding each
    /// value. Postgres gets text and casts it to the column's own type, which
    /// is exact for every type.
    fn arrays(&self, rows: &[Row]) -> Statement {
        let names = self.targets.iter().map(|target| quoted(&target.name));
        let names = names.collect::<Vec<_>>().join(", ");
        let (mut cells, mut arrays, mut aliases) = (String::new(), String::new(), String::new());
        for (place, target) in self.targets.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            _ = match &target.cast {
                Some(cast) => write!(cells, "{comma}CAST(c{place} AS {cast})"),
                None => write!(cells, "{comma}c{place}"),
            };
            _ = write!(arrays, "{comma}CAST(${} AS text[])", place + 1);
            _ = write!(aliases, "{comma}c{place}");
        }
        let sql = format!(
            "INSERT INTO {} ({names}) SELECT {cells} FROM unnest({arrays}) AS r ({aliases}){}",
            self.table.quoted(),
            self.conflict_sql()
        );
        let columns = (0..self.targets.len()).map(|place| Value::from(array(rows, place)));
        Statement::from_sql_and_values(DbBackend::Postgres, sql, columns)
    }

    fn conflict_sql(&self) -> String {
        if self.mode == Mode::Insert {
            return String::new();
        }
        let key: Vec<_> = self.key.iter().map(|name| quoted(name)).collect();
        let others: Vec<_> = self
            .others()
            .map(|name| format!("{name} = EXCLUDED.{name}", name = quoted(name)))
            .collect();
        let action = match others.is_empty() {
            true => "DO NOTHING".to_owned(),
            false => format!("DO UPDATE SET {}", others.join(", ")),
        };
        format!(" ON CONFLICT ({}) {action}", key.join(", "))
    }

    fn others(&self) -> impl Iterator<Item = &str> {
        let names = self.targets.iter().map(|target| target.name.as_str());
        names.filter(|name| !self.key.iter().any(|key| key == name))
    }

    fn values(&self, backend: DbBackend, rows: Vec<Row>) -> Statement {
        let mut insert = Query::insert();
        insert.into_table(self.table.reference());
        insert.columns(self.targets.iter().map(|target| Alias::new(&target.name)));
        for row in rows {
            insert.values_panic(row.cells.into_iter().map(bound));
        }
        if self.mode == Mode::Upsert {
            let mut conflict = OnConflict::columns(self.key.iter().map(Alias::new));
            let others: Vec<_> = self.others().map(Alias::new).collect();
            match others.is_empty() {
                true => conflict.do_nothing(),
                false => conflict.update_columns(others),
            };
            insert.on_conflict(conflict);
        }
        backend.build(&insert)
    }
}

/// SQLite gets its own kinds of values.
fn bound(cell: Cell) -> Expr {
    match cell {
        Cell::Null => Expr::val(None::<String>),
        Cell::Boolean(value) => Expr::val(value),
        Cell::Integer(value) => Expr::val(value),
        Cell::Float(value) => Expr::val(value),
        Cell::Text(value) => Expr::val(value),
    }
}

/// The cells of one column as the text of a Postgres array (Postgres manual,
/// section 8.15.6): each quoted, in it `"` and `\` behind a backslash.
fn array(rows: &[Row], place: usize) -> String {
    let mut text = String::with_capacity(rows.len() * 16);
    text.push('{');
    for (n, cell) in rows.iter().filter_map(|row| row.cells.get(place)).enumerate() {
        if n > 0 {
            text.push(',');
        }
        _ = match cell {
            Cell::Null => write!(text, "NULL"),
            Cell::Boolean(value) => write!(text, "{value}"),
            Cell::Integer(value) => write!(text, "{value}"),
            Cell::Float(value) => write!(text, "{value}"),
            Cell::Text(value) => write_quoted(&mut text, value),
        };
    }
    text.push('}');
    text
}

fn write_quoted(text: &mut String, value: &str) -> std::fmt::Result {
    text.push('"');
    let mut rest = value;
    while let Some((plain, found)) = rest.find(['"', '\\']).map(|at| rest.split_at(at)) {
        text.push_str(plain);
        text.push('\\');
        let (escaped, after) = found.split_at(1);
        text.push_str(escaped);
        rest = after;
    }
    text.push_str(rest);
    text.push('"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_keeps_every_character_and_tells_null_from_its_name() {
        let texts = ["", "NULL", "a\"b\\c", "\\\"", "{},", " x ", "é\n"];
        let cells = texts.iter().map(|text| Cell::Text((*text).to_owned()));
        let cells = cells.chain([Cell::Null, Cell::Integer(-1), Cell::Boolean(true)]);
        let rows: Vec<_> =
            cells.enumerate().map(|(index, cell)| Row { index, cells: vec![cell] }).collect();
        let expected =
            "{\"\",\"NULL\",\"a\\\"b\\\\c\",\"\\\\\\\"\",\"{},\",\" x \",\"é\n\",NULL,-1,true}";
        assert_eq!(array(&rows, 0), expected);
    }
}
