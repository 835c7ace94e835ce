//! Names of tables and columns. They are always quoted, so that any
//! character may stand in them.

use std::fmt;

use sea_orm::sea_query::{Alias, IntoTableRef, TableRef};

/// Postgres cuts longer names off without a word.
const MAX_IDENTIFIER_BYTES: usize = 63;

/// Checks the name of a table, schema or column.
///
/// # Errors
/// Says what a name may be.
pub fn check_identifier(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MAX_IDENTIFIER_BYTES || name.contains('\0') {
        return Err(format!("a name has 1 to {MAX_IDENTIFIER_BYTES} bytes, none of them zero"));
    }
    Ok(())
}

/// A table, with its schema if one was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableName {
    schema: Option<String>,
    name: String,
}

impl TableName {
    /// Splits `schema.table` at its first point.
    ///
    /// # Errors
    /// Says what a name may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema.to_owned()), name.to_owned()),
            None => (None, text.to_owned()),
        };
        schema.iter().chain([&name]).try_for_each(|part| check_identifier(part))?;
        Ok(Self { schema, name })
    }

    /// Another table of the same schema.
    pub fn sibling(&self, name: &str) -> Self {
        Self { schema: self.schema.clone(), name: name.to_owned() }
    }

    /// The schema, if one was given.
    pub fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The name within its schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For use in a statement.
    pub fn reference(&self) -> TableRef {
        let name = Alias::new(&self.name);
        match &self.schema {
            Some(schema) => (Alias::new(schema), name).into_table_ref(),
            None => name.into_table_ref(),
        }
    }

    /// Quoted: as SQL, and as text to be bound where Postgres takes a name as a
    /// value.
    pub fn quoted(&self) -> String {
        let parts = self.schema.iter().chain([&self.name]);
        parts.map(|part| quoted(part)).collect::<Vec<_>>().join(".")
    }
}

/// A name as SQL.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "{schema}.")?;
        }
        f.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_separates_schema_and_table_and_quotes_are_doubled() {
        let table = TableName::parse("sales.my \"table\".x").unwrap();
        assert_eq!((table.schema(), table.name()), (Some("sales"), "my \"table\".x"));
        assert_eq!(table.quoted(), "\"sales\".\"my \"\"table\"\".x\"");
        assert_eq!(table.to_string(), "sales.my \"table\".x");
    }

    #[test]
    fn empty_long_and_zero_names_are_refused() {
        for text in ["", ".", "a.", ".a", "a\0b", &"é".repeat(32)] {
            assert!(TableName::parse(text).is_err(), "{text:?}");
        }
        assert!(TableName::parse(&"a".repeat(63)).is_ok());
    }
}
