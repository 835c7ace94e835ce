//! From the text a pattern found to a typed JSON value.

pub mod date;
pub mod locale;
pub mod number;

use std::fmt::Write;

use chrono::NaiveDate;
use chrono::format::{Item, StrftimeItems};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use serde_json::{Number, Value};

use super::params::ValueType;
use crate::steps::ParamError;
use locale::LocaleRules;
use number::DecimalSeparator;

/// Why a text is not of its type. Its words never quote the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No number, or digits grouped in no known way.
    #[error("the text found is not a number")]
    NotANumber,
    /// A lone separator before three digits.
    #[error(
        "the number's separator can be read in two ways; give a `locale` or `decimal_separator`"
    )]
    AmbiguousNumber,
    /// A number with decimals, or beyond 64 bits, where none may be.
    #[error("the number found is not an integer of 64 bits")]
    NotAnInteger,
    /// No date, or none of the formats fits.
    #[error("the text found is not a date in a form that is expected here")]
    NotADate,
    /// Day and month are both at most 12.
    #[error(
        "day and month of the date cannot be told apart; give a `locale` with its region, such \
         as `en-GB`, or `formats`"
    )]
    AmbiguousDate,
    /// The sum is beyond 28 digits.
    #[error("the sum is too large")]
    SumTooLarge,
}

/// How text becomes a value.
#[derive(Debug, Clone)]
pub struct Conversion {
    kind: ValueType,
    locale: Option<LocaleRules>,
    decimal_separator: Option<char>,
    formats: Vec<String>,
}

impl Conversion {
    /// Checks the options as a whole; `path` is their place below `with`.
    ///
    /// # Errors
    /// If an option is unknown, malformed or of no use to the type.
    pub fn new(
        kind: ValueType,
        locale: Option<&str>,
        decimal_separator: Option<&str>,
        formats: Vec<String>,
        path: &str,
    ) -> Result<Self, ParamError> {
        let locale = compile_locale(locale, path)?;
        let separator = match decimal_separator {
            None => None,
            Some(".") => Some('.'),
            Some(",") => Some(','),
            Some(_) => {
                let path = format!("{path}.decimal_separator");
                return Err(ParamError::at(path, "give `.` or `,`"));
            }
        };
        if separator.is_some() && kind != ValueType::Decimal && kind != ValueType::Integer {
            let path = format!("{path}.decimal_separator");
            return Err(ParamError::at(path, "only `type` decimal or integer has it"));
        }
        if !formats.is_empty() && kind != ValueType::Date {
            return Err(ParamError::at(format!("{path}.formats"), "only `type` date has formats"));
        }
        for (index, format) in formats.iter().enumerate() {
            if !gives_a_date(format) {
                let detail = "not a strftime format of a whole date, such as `%d.%m.%Y`";
                return Err(ParamError::at(format!("{path}.formats[{index}]"), detail));
            }
        }
        Ok(Self { kind, locale, decimal_separator: separator, formats })
    }

    /// The typed value of `text`; `document` is the locale of the document,
    /// for where the conversion has none of its own.
    ///
    /// # Errors
    /// [`Unreadable`] if the text is not of the type.
    pub fn value(&self, text: &str, document: Option<&LocaleRules>) -> Result<Value, Unreadable> {
        match self.kind {
            ValueType::String => Ok(Value::from(text)),
            ValueType::Decimal | ValueType::Integer => {
                self.number_value(self.number(text, document)?)
            }
            ValueType::Date => {
                let locale = self.locale.as_ref().or(document);
                let date = if self.formats.is_empty() {
                    date::parse(text, locale)?
                } else {
                    date::parse_with(text, &self.formats, locale)?
                };
                Ok(Value::from(date.format("%Y-%m-%d").to_string()))
            }
        }
    }

    /// The exact sum of the numbers in `texts`.
    ///
    /// # Errors
    /// [`Unreadable`] if one is not a number or the sum is too large.
    pub fn sum<'a>(
        &self,
        texts: impl Iterator<Item = &'a str>,
        document: Option<&LocaleRules>,
    ) -> Result<Value, Unreadable> {
        let mut sum = Decimal::ZERO;
        for text in texts {
            let number = self.number(text, document)?;
            sum = sum.checked_add(number).ok_or(Unreadable::SumTooLarge)?;
        }
        self.number_value(sum)
    }

    fn number(&self, text: &str, document: Option<&LocaleRules>) -> Result<Decimal, Unreadable> {
        let locale = self.locale.as_ref().or(document);
        let of_locale = locale.and_then(|locale| locale.decimal_separator);
        let separator = match (self.decimal_separator, of_locale) {
            (Some(separator), _) => DecimalSeparator::Always(separator),
            (None, Some(separator)) => DecimalSeparator::WhereOpen(separator),
            (None, None) => DecimalSeparator::Unknown,
        };
        number::parse(text, separator, self.kind == ValueType::Integer)
    }

    fn number_value(&self, number: Decimal) -> Result<Value, Unreadable> {
        if self.kind == ValueType::Integer {
            let integer = if number.is_integer() { number.to_i64() } else { None };
            return integer.map(Value::from).ok_or(Unreadable::NotAnInteger);
        }
        Ok(json_number(number))
    }
}

/// The rules of the locale that the parameters name, if they name one.
///
/// # Errors
/// If the locale is unknown.
pub fn compile_locale(tag: Option<&str>, path: &str) -> Result<Option<LocaleRules>, ParamError> {
    let Some(tag) = tag else {
        return Ok(None);
    };
    let path = if path.is_empty() { "locale".to_owned() } else { format!("{path}.locale") };
    let detail = "unknown locale; give a language and region such as `de-DE` or `en-IN`";
    LocaleRules::from_tag(tag).map(Some).ok_or_else(|| ParamError::at(path, detail))
}

/// A JSON number if it reads back as the same decimal, else a string.
fn json_number(number: Decimal) -> Value {
    let text = number.normalize().to_string();
    let float = text.parse::<f64>().ok().filter(|float| float.to_string() == text);
    match float.and_then(Number::from_f64) {
        Some(float) => Value::Number(float),
        None => Value::String(number.to_string()),
    }
}

/// Whether what `format` prints of a day can be read back as that day.
fn gives_a_date(format: &str) -> bool {
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    let sample = NaiveDate::from_ymd_opt(2013, 11, 28).and_then(|day| day.and_hms_opt(15, 4, 5));
    let Some(sample) = sample.filter(|_| !items.contains(&Item::Error)) else {
        return false;
    };
    let mut text = String::new();
    let printed = write!(text, "{}", sample.format_with_items(items.iter())).is_ok();
    printed && NaiveDate::parse_from_str(&text, format).is_ok_and(|day| day == sample.date())
}

/// The ASCII digit of a decimal digit of the scripts that invoices are
/// written in; any other character as it is.
fn ascii_digit(c: char) -> char {
    const ZEROS: [u32; 7] = [0x660, 0x6f0, 0x966, 0x9e6, 0xa66, 0xe50, 0xff10];
    let code = u32::from(c);
    let value = ZEROS.iter().filter_map(|zero| code.checked_sub(*zero)).find(|value| *value < 10);
    value.and_then(|value| char::from_digit(value, 10)).unwrap_or(c)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conversion(kind: ValueType) -> Conversion {
        Conversion::new(kind, None, None, Vec::new(), "x").unwrap()
    }

    #[test]
    fn a_decimal_is_a_number_where_that_is_exact_and_a_string_where_not() {
        let decimal = |text| conversion(ValueType::Decimal).value(text, None).unwrap();
        assert_eq!(decimal("717,97"), json!(717.97));
        assert_eq!(decimal("399,00"), json!(399.0));
        assert_eq!(decimal("-0.1"), json!(-0.1));
        assert_eq!(decimal("12345678901234567.89"), json!("12345678901234567.89"));
        assert_eq!(decimal("0.1234567890123456789"), json!("0.1234567890123456789"));
    }

    #[test]
    fn an_integer_may_be_printed_with_empty_decimals_but_not_with_others() {
        let integer = |text| conversion(ValueType::Integer).value(text, None);
        assert_eq!(integer("1.234"), Ok(json!(1234)));
        assert_eq!(integer("1,0"), Ok(json!(1)));
        assert_eq!(integer("1,5"), Err(Unreadable::NotAnInteger));
        assert_eq!(integer("9 999 999 999 999 999 999"), Err(Unreadable::NotAnInteger));
    }

    #[test]
    fn the_own_locale_goes_before_the_documents() {
        let own = Conversion::new(ValueType::Date, Some("en-US"), None, Vec::new(), "x").unwrap();
        let document = LocaleRules::from_tag("nl");
        assert_eq!(own.value("8/9/2022", document.as_ref()), Ok(json!("2022-08-09")));
        let none = conversion(ValueType::Date);
        assert_eq!(none.value("8/9/2022", document.as_ref()), Ok(json!("2022-09-08")));
    }

    #[test]
    fn a_sum_is_exact() {
        let texts = ["0.1", "0.2", "1,000.00"];
        let sum = conversion(ValueType::Decimal).sum(texts.into_iter(), None);
        assert_eq!(sum, Ok(json!(1000.3)));
    }

    #[test]
    fn options_that_cannot_work_are_refused_with_their_place() {
        let at = |kind, locale, separator, formats: &[&str]| {
            let formats = formats.iter().map(|&format| format.to_owned()).collect();
            Conversion::new(kind, locale, separator, formats, "fields.x").unwrap_err().path
        };
        assert_eq!(at(ValueType::Date, Some("xx"), None, &[]), "fields.x.locale");
        assert_eq!(at(ValueType::Decimal, None, Some(";"), &[]), "fields.x.decimal_separator");
        assert_eq!(at(ValueType::Date, None, Some(","), &[]), "fields.x.decimal_separator");
        assert_eq!(at(ValueType::String, None, None, &["%Y"]), "fields.x.formats");
        for format in ["%Y", "%B %Y", "%Q", "%H:%M", "%d.%m.%Y %z", ""] {
            assert_eq!(at(ValueType::Date, None, None, &[format]), "fields.x.formats[0]");
        }
    }

    #[test]
    fn formats_may_hold_times_and_two_digit_years() {
        for format in ["%d.%m.%y", "%d/%m/%Y %H:%M", "%A, %d %B %Y", "%F", "%b %e, %Y"] {
            assert!(gives_a_date(format), "{format}");
        }
    }
}
