//! Whether a value fits the column it goes into, before anything is written.

use std::ops::RangeInclusive;

use rust_decimal::Decimal;
use serde_json::Value;

use super::cell::{Cell, CellType};
use super::destination::Target;

/// What a column refuses or would change, besides what its kind of value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// More characters than this; spaces at the end do not count.
    Characters(usize),
    /// Whole numbers outside.
    Whole(RangeInclusive<i64>),
    /// Numbers with more digits in all, or after the point.
    Digits {
        /// In all.
        precision: u32,
        /// After the point.
        scale: u32,
    },
    /// What a number in single precision cannot hold.
    Single,
    /// Text that is no UUID.
    Uuid,
}

impl Limit {
    /// None if it fits, else what would.
    fn refuses(&self, cell: &Cell) -> Option<String> {
        match (self, cell) {
            (Self::Characters(most), Cell::Text(text)) => {
                let longer =
                    text.len() > *most && text.trim_end_matches(' ').chars().count() > *most;
                longer.then(|| format!("at most {most} characters"))
            }
            (Self::Whole(range), Cell::Integer(value)) if !range.contains(value) => {
                Some(format!("a whole number from {} to {}", range.start(), range.end()))
            }
            (Self::Digits { precision, scale }, Cell::Text(text)) => {
                let fits = text.parse().is_ok_and(|value| has_digits(value, *precision, *scale));
                let before = precision.saturating_sub(*scale);
                (!fits).then(|| {
                    format!("at most {before} digits before the point and {scale} after it")
                })
            }
            (Self::Single, Cell::Float(value)) if value.abs() > f64::from(f32::MAX) => {
                Some("a number in single precision".to_owned())
            }
            (Self::Uuid, Cell::Text(text)) if uuid::Uuid::try_parse(text.trim()).is_err() => {
                Some("a UUID".to_owned())
            }
            _ => None,
        }
    }
}

fn has_digits(value: Decimal, precision: u32, scale: u32) -> bool {
    let value = value.abs().normalize();
    let before = match value.trunc().is_zero() {
        true => 0,
        false => value.trunc().to_string().len(),
    };
    value.scale() <= scale && before <= (precision.saturating_sub(scale)) as usize
}

/// Makes the cell of a value.
///
/// # Errors
/// What was expected; never the value.
pub fn cell(
    takes_zeros: bool,
    target: &Target,
    value: &Value,
    in_key: bool,
) -> Result<Cell, String> {
    if !takes_zeros && has_zero(value) {
        return Err("text without zero characters, which Postgres cannot hold".to_owned());
    }
    let cell = target.cell_type.convert(value)?;
    if cell == Cell::Null {
        return match (in_key, target.nullable) {
            (true, _) => Err("a value, because the column is in the key".to_owned()),
            (_, false) => Err("a value, because the column cannot be empty".to_owned()),
            _ => Ok(cell),
        };
    }
    if let Some(expected) = target.limit.as_ref().and_then(|limit| limit.refuses(&cell)) {
        return Err(expected);
    }
    match cell {
        // Equal numbers must be equal text, to tell rows apart.
        Cell::Text(text) if in_key && target.cell_type == CellType::Decimal => {
            let number = text.parse::<Decimal>().map_err(|_| "a decimal number")?;
            Ok(Cell::Text(number.normalize().to_string()))
        }
        cell => Ok(cell),
    }
}

fn has_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_zero),
        Value::Object(fields) => {
            fields.iter().any(|(name, value)| name.contains('\0') || has_zero(value))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_exactly_is_taken_and_one_more_is_not() {
        let digits = Limit::Digits { precision: 5, scale: 2 };
        let text = |text: &str| Cell::Text(text.to_owned());
        for (limit, cell, fits) in [
            (Limit::Characters(3), text("äöü"), true),
            (Limit::Characters(3), text("abc  "), true),
            (Limit::Characters(3), text("abcd"), false),
            (Limit::Whole(-1..=1), Cell::Integer(1), true),
            (Limit::Whole(-1..=1), Cell::Integer(-2), false),
            (digits.clone(), text("-999.99"), true),
            (digits.clone(), text("999.9900"), true),
            (digits.clone(), text("1000"), false),
            (digits.clone(), text("0.001"), false),
            (Limit::Digits { precision: 2, scale: 2 }, text("0.99"), true),
            (Limit::Digits { precision: 2, scale: 2 }, text("1"), false),
            (Limit::Single, Cell::Float(1e38), true),
            (Limit::Single, Cell::Float(1e39), false),
            (Limit::Uuid, text("018f4e5c-0000-7000-8000-000000000000"), true),
            (Limit::Uuid, text("018f4e5c"), false),
            (digits, Cell::Null, true),
        ] {
            assert_eq!(limit.refuses(&cell).is_none(), fits, "{limit:?} {cell:?}");
        }
    }
}
