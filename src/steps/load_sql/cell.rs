//! What a column holds, and how a JSON value becomes that.

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Number, Value};

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CellType {
    /// Text; other values become their JSON text.
    Text,
    /// A whole number of 64 bits.
    Integer,
    /// An exact decimal number of up to 28 digits.
    Decimal,
    /// A number in double precision.
    Float,
    /// True or false.
    Boolean,
    /// A day, `2026-11-30`.
    Date,
    /// A moment as in RFC 3339; without an offset it is UTC. Kept in UTC to
    /// the microsecond.
    Timestamp,
    /// Any JSON value.
    Json,
}

/// A value ready to be bound.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// SQL's NULL.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A whole number.
    Integer(i64),
    /// A finite number.
    Float(f64),
    /// Everything else, in canonical form.
    Text(String),
}

impl CellType {
    /// The narrowest type for all of a column's values.
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::Bool(_) => Some(Self::Boolean),
            Value::Number(number) if number.is_i64() => Some(Self::Integer),
            Value::Number(number) if number.is_u64() => Some(Self::Decimal),
            Value::Number(_) => Some(Self::Float),
            Value::String(_) => Some(Self::Text),
            Value::Array(_) | Value::Object(_) => Some(Self::Json),
        }
    }

    /// The narrowest type that holds the values of both.
    pub fn join(self, other: Self) -> Self {
        use CellType::{Decimal, Float, Integer, Json, Text};
        match (self, other) {
            (one, same) if one == same => one,
            (Integer, Decimal) | (Decimal, Integer) => Decimal,
            (Integer | Decimal, Float) | (Float, Integer | Decimal) => Float,
            (Json, _) | (_, Json) => Json,
            _ => Text,
        }
    }

    /// Converts one value.
    ///
    /// # Errors
    /// What was expected; never the value.
    pub fn convert(self, value: &Value) -> Result<Cell, &'static str> {
        if value.is_null() {
            return Ok(Cell::Null);
        }
        let (converted, expected) = match self {
            Self::Text => (Some(text(value)), "text"),
            Self::Integer => (integer(value), "a whole number of 64 bits"),
            Self::Decimal => (decimal(value), "a decimal number of up to 28 digits"),
            Self::Float => (float(value), "a number"),
            Self::Boolean => (boolean(value), "true or false"),
            Self::Date => (date(value), "a day such as 2026-11-30"),
            Self::Timestamp => (timestamp(value), "a moment such as 2026-11-30T12:00:00Z"),
            Self::Json => (Some(Cell::Text(value.to_string())), "JSON"),
        };
        converted.ok_or(expected)
    }
}

fn text(value: &Value) -> Cell {
    Cell::Text(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn integer(value: &Value) -> Option<Cell> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.map(Cell::Integer)
}

/// A float without a fraction, as far as floats are exact.
fn whole(number: &Number) -> Option<i64> {
    let text = number.as_f64().filter(|value| value.fract() == 0.0 && value.abs() < 1e15)?;
    format!("{text:.0}").parse().ok()
}

fn decimal(value: &Value) -> Option<Cell> {
    let number = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    // The scientific form is exact only if its mantissa is; grouping with
    // underscores is Rust's, not the user's.
    let mantissa = number.split(['e', 'E']).next().filter(|text| !text.contains('_'))?;
    let mut exact = Decimal::from_str_exact(mantissa).ok()?;
    if mantissa.len() < number.len() {
        exact = Decimal::from_scientific(&number).ok()?;
    }
    Some(Cell::Text(exact.to_string()))
}

fn float(value: &Value) -> Option<Cell> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite()).map(Cell::Float)
}

fn boolean(value: &Value) -> Option<Cell> {
    match value {
        Value::Bool(value) => Some(Cell::Boolean(*value)),
        Value::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" => Some(Cell::Boolean(true)),
            "false" => Some(Cell::Boolean(false)),
            _ => None,
        },
        _ => None,
    }
}

fn date(value: &Value) -> Option<Cell> {
    let day: NaiveDate = value.as_str()?.trim().parse().ok()?;
    Some(Cell::Text(day.format("%Y-%m-%d").to_string()))
}

fn timestamp(value: &Value) -> Option<Cell> {
    let text = value.as_str()?.trim();
    let moment = match DateTime::parse_from_rfc3339(text) {
        Ok(moment) => moment.to_utc(),
        Err(_) => text.parse::<NaiveDateTime>().ok()?.and_utc(),
    };
    let moment: DateTime<Utc> = moment;
    Some(Cell::Text(moment.to_rfc3339_opts(SecondsFormat::Micros, true)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text_of(cell_type: CellType, value: &Value) -> Option<String> {
        match cell_type.convert(value) {
            Ok(Cell::Text(text)) => Some(text),
            _ => None,
        }
    }

    #[test]
    fn decimals_keep_every_digit_and_the_scale() {
        for text in
            ["12.50", "-0.1", "1234567890123456789012345.678", "0.0000000000000000000000000001"]
        {
            assert_eq!(text_of(CellType::Decimal, &json!(text)).unwrap(), text);
        }
        assert_eq!(text_of(CellType::Decimal, &json!(u64::MAX)).unwrap(), u64::MAX.to_string());
        assert_eq!(text_of(CellType::Decimal, &json!(0.1)).unwrap(), "0.1");
        assert_eq!(text_of(CellType::Decimal, &json!(1e-7)).unwrap(), "0.0000001");
        for text in [
            "",
            "1,50",
            "12.50 EUR",
            "0x10",
            "NaN",
            "1_000",
            "0.12345678901234567890123456789",
            "0.12345678901234567890123456789e0",
            "12345678901234567890123456789012e-2",
            "1e99",
        ] {
            assert_eq!(text_of(CellType::Decimal, &json!(text)), None, "{text}");
        }
    }

    #[test]
    fn whole_numbers_are_exact_or_refused() {
        assert_eq!(CellType::Integer.convert(&json!(3.0)), Ok(Cell::Integer(3)));
        assert_eq!(CellType::Integer.convert(&json!(" 42 ")), Ok(Cell::Integer(42)));
        assert_eq!(CellType::Integer.convert(&json!(i64::MIN)), Ok(Cell::Integer(i64::MIN)));
        for value in [json!(3.5), json!(1e300), json!(u64::MAX), json!("x"), json!(true), json!([])]
        {
            assert!(CellType::Integer.convert(&value).is_err(), "{value}");
        }
    }

    #[test]
    fn days_and_moments_are_checked_and_made_canonical() {
        assert_eq!(text_of(CellType::Date, &json!("2024-02-29")).unwrap(), "2024-02-29");
        assert_eq!(text_of(CellType::Date, &json!("2023-02-29")), None);
        let moments = [
            ("2026-01-02T03:04:05+02:00", "2026-01-02T01:04:05.000000Z"),
            ("2026-01-02T03:04:05.123456789", "2026-01-02T03:04:05.123456Z"),
        ];
        for (given, canonical) in moments {
            assert_eq!(text_of(CellType::Timestamp, &json!(given)).unwrap(), canonical);
        }
        assert_eq!(text_of(CellType::Timestamp, &json!("2026-01-02")), None);
    }

    #[test]
    fn infinite_floats_and_odd_booleans_are_refused() {
        assert!(CellType::Float.convert(&json!("inf")).is_err());
        assert!(CellType::Float.convert(&json!("NaN")).is_err());
        assert_eq!(CellType::Boolean.convert(&json!("True")), Ok(Cell::Boolean(true)));
        assert!(CellType::Boolean.convert(&json!(1)).is_err());
    }

    #[test]
    fn joining_types_never_depends_on_the_order() {
        use CellType::{Boolean, Decimal, Float, Integer, Json, Text};
        let all = [Boolean, Decimal, Float, Integer, Json, Text];
        for one in all {
            for other in all {
                assert_eq!(one.join(other), other.join(one));
            }
        }
        assert_eq!(Integer.join(Float), Float);
        assert_eq!(Boolean.join(Integer), Text);
    }
}
