//! From the step's input to rows and columns.

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::ColumnParams;
use super::cell::CellType;
use super::table::check_identifier;
use crate::steps::StepError;

/// Columns of one load; databases stop between 1,600 and 2,000.
const MAX_COLUMNS: usize = 1_000;

/// The rows of an input and the columns they are loaded into.
#[derive(Debug)]
pub struct Source {
    input: Arc<Value>,
    /// In the order of `columns`, or of their first appearance.
    pub columns: Vec<Column>,
}

impl Source {
    /// In the order of the input.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &Map<String, Value>> {
        objects(&self.input).unwrap_or_default().into_iter()
    }
}

/// A column to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the destination.
    pub name: String,
    /// JSON pointer into the row, if it is not the field with its name.
    pub from: Option<String>,
    /// The type that the workflow fixes.
    pub fixed: Option<CellType>,
    /// The type that fits the values.
    pub inferred: CellType,
}

impl Column {
    /// The column's value in `row`, if there is one.
    pub fn of<'r>(&self, row: &'r Map<String, Value>) -> Option<&'r Value> {
        let Some(pointer) = &self.from else { return row.get(&self.name) };
        let mut tokens = pointer.split('/').skip(1).map(unescape);
        let first = row.get(&tokens.next()?)?;
        tokens.try_fold(first, |value, token| match value {
            Value::Object(fields) => fields.get(&token),
            Value::Array(items) => items.get(token.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

/// RFC 6901, section 4: `~1` is a slash, then `~0` a tilde.
fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// Takes rows from an array of objects, from one object, or from the array
/// `rows` of an object.
///
/// # Errors
/// `bad_step_input` if there are no rows in it, `row_invalid` if one is not
/// an object or has a field that cannot be a column.
pub fn read(
    input: &Arc<Value>,
    columns: Option<&IndexMap<String, ColumnParams>>,
) -> Result<Source, StepError> {
    let rows = objects(input)?;
    let columns = match columns {
        Some(columns) => columns.iter().map(fixed).collect(),
        None => infer(&rows)?,
    };
    if columns.len() > MAX_COLUMNS {
        let detail = format!("the rows have more than {MAX_COLUMNS} fields; name some in columns");
        return Err(StepError::permanent("row_invalid", detail));
    }
    Ok(Source { input: Arc::clone(input), columns })
}

fn objects(input: &Value) -> Result<Vec<&Map<String, Value>>, StepError> {
    let rows = match input {
        Value::Array(rows) => rows,
        Value::Object(fields) => match fields.get("rows") {
            Some(Value::Array(rows)) => rows,
            _ => return Ok(vec![fields]),
        },
        _ => {
            let detail = "load_sql takes an array of objects, an object, or an object with `rows`";
            return Err(StepError::bad_input(detail));
        }
    };
    let objects = rows.iter().enumerate().map(|(index, row)| match row {
        Value::Object(fields) => Ok(fields),
        _ => Err(StepError::permanent("row_invalid", format!("row {index} is not an object"))),
    });
    objects.collect()
}

fn fixed((name, params): (&String, &ColumnParams)) -> Column {
    Column {
        name: name.clone(),
        from: params.from.clone(),
        fixed: Some(params.cell_type),
        inferred: params.cell_type,
    }
}

/// All fields of all rows; a field that is null everywhere becomes text.
fn infer(rows: &[&Map<String, Value>]) -> Result<Vec<Column>, StepError> {
    let mut types: IndexMap<&str, Option<CellType>> = IndexMap::new();
    for (index, row) in rows.iter().enumerate() {
        for (name, value) in *row {
            let seen = match types.get_mut(name.as_str()) {
                Some(seen) => seen,
                None => {
                    check_identifier(name).map_err(|detail| {
                        let detail = format!("row {index} has a field that is no column: {detail}");
                        StepError::permanent("row_invalid", detail)
                    })?;
                    types.entry(name).or_default()
                }
            };
            *seen = match (*seen, CellType::of(value)) {
                (Some(one), Some(other)) => Some(one.join(other)),
                (one, other) => one.or(other),
            };
        }
    }
    let columns = types.into_iter().map(|(name, inferred)| Column {
        name: name.to_owned(),
        from: None,
        fixed: None,
        inferred: inferred.unwrap_or(CellType::Text),
    });
    Ok(columns.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn types(input: Value) -> Vec<(String, CellType)> {
        let source = read(&Arc::new(input), None).unwrap();
        source.columns.into_iter().map(|column| (column.name, column.inferred)).collect()
    }

    #[test]
    fn columns_are_the_union_of_all_fields_with_types_that_hold_all_values() {
        use CellType::{Boolean, Decimal, Float, Integer, Json, Text};
        let input = json!([
            {"i": 1, "f": 1, "b": true, "t": "x", "j": {}, "mixed": 1, "none": null},
            {"new": u64::MAX, "i": null, "f": 0.5, "j": [1], "mixed": "x"},
        ]);
        let expected = [
            ("i", Integer),
            ("f", Float),
            ("b", Boolean),
            ("t", Text),
            ("j", Json),
            ("mixed", Text),
            ("none", Text),
            ("new", Decimal),
        ];
        assert_eq!(types(input), expected.map(|(name, one)| (name.to_owned(), one)));
    }

    #[test]
    fn rows_come_from_an_array_an_object_or_its_rows() {
        for input in [json!([{"a": 1}]), json!({"a": 1}), json!({"rows": [{"a": 1}], "b": 2})] {
            assert_eq!(types(input), [("a".to_owned(), CellType::Integer)]);
        }
        assert_eq!(read(&Arc::new(json!("x")), None).unwrap_err().code, "bad_step_input");
        let error = read(&Arc::new(json!([{}, "s3cr3t"])), None).unwrap_err();
        assert_eq!(error.detail, "row 1 is not an object");
    }

    #[test]
    fn pointers_reach_into_rows() {
        let column = |from: &str| Column {
            name: "x".to_owned(),
            from: Some(from.to_owned()),
            fixed: None,
            inferred: CellType::Text,
        };
        let Value::Object(row) = json!({"a": {"b/c": [1, {"~": 2}]}}) else { unreachable!() };
        assert_eq!(column("/a/b~1c/1/~0").of(&row), Some(&json!(2)));
        assert_eq!(column("/a/b~1c/7").of(&row), None);
        assert_eq!(column("").of(&row), None);
    }
}
