//! From jq's values, which are more than JSON, to JSON.

use std::fmt;

use jaq_json::{Num, Val};
use serde_json::{Map, Number, Value};

/// Levels of nesting; a JSON reader commonly stops at 128.
const MAX_DEPTH: usize = 100;

/// What still may be put out.
pub struct Budget {
    bytes_left: usize,
}

/// Why a value is not put out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overrun {
    /// The outputs are too large together.
    Bytes,
    /// One output is nested too deeply.
    Depth,
}

impl fmt::Display for Overrun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes => f.write_str("the filter puts out too much"),
            Self::Depth => write!(f, "an output is nested more than {MAX_DEPTH} levels deep"),
        }
    }
}

impl Budget {
    /// A budget of about `bytes` bytes of JSON.
    pub fn of_bytes(bytes: usize) -> Self {
        Self { bytes_left: bytes }
    }

    /// Converts one output. As in jq, NaN becomes null and an infinity the
    /// largest number; strings that are not UTF-8 get replacement characters,
    /// keys that are not strings become their JSON text.
    ///
    /// # Errors
    /// If the value, or all values together, are too much.
    pub fn put_out(&mut self, value: &Val) -> Result<Value, Overrun> {
        self.convert(value, MAX_DEPTH)
    }

    fn convert(&mut self, value: &Val, depth_left: usize) -> Result<Value, Overrun> {
        self.spend(2)?;
        let inner = depth_left.checked_sub(1).ok_or(Overrun::Depth);
        Ok(match value {
            Val::Null => Value::Null,
            Val::Bool(value) => Value::Bool(*value),
            Val::Num(number) => self.number(number)?,
            Val::TStr(bytes) | Val::BStr(bytes) => Value::String(self.text(bytes)?),
            Val::Arr(items) => {
                let depth = inner?;
                let items = items.iter().map(|item| self.convert(item, depth));
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Val::Obj(entries) => {
                let depth = inner?;
                let mut object = Map::new();
                for (key, value) in entries.iter() {
                    let key = match key {
                        Val::TStr(bytes) | Val::BStr(bytes) => self.text(bytes)?,
                        other => self.convert(other, depth)?.to_string(),
                    };
                    object.insert(key, self.convert(value, depth)?);
                }
                Value::Object(object)
            }
        })
    }

    fn text(&mut self, bytes: &[u8]) -> Result<String, Overrun> {
        self.spend(bytes.len())?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Integers stay exact as far as 64 bits go.
    fn number(&mut self, number: &Num) -> Result<Value, Overrun> {
        if let Num::Int(value) = number {
            self.spend(size_of::<isize>())?;
            return Ok(Value::from(*value));
        }
        let text = number.to_string();
        self.spend(text.len())?;
        if let Ok(exact) = text.parse::<Number>() {
            return Ok(Value::Number(exact));
        }
        let float = text.parse::<f64>().unwrap_or(f64::NAN);
        let finite = float.clamp(f64::MIN, f64::MAX);
        Ok(Number::from_f64(finite).map_or(Value::Null, Value::Number))
    }

    fn spend(&mut self, bytes: usize) -> Result<(), Overrun> {
        self.bytes_left = self.bytes_left.checked_sub(bytes).ok_or(Overrun::Bytes)?;
        Ok(())
    }
}
