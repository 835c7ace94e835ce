//! Values of a known form: JSON bodies, query strings, deployment files. A
//! fault names its place and what would be right, and never repeats the value:
//! it may be large, or content that must not be told on.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value that has not the known form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misplaced {
    /// Where, such as `items[0].size`; none for the whole.
    pub place: Option<String>,
    /// What would be right.
    pub cure: String,
}

/// Reads an object of a known form.
///
/// # Errors
/// [`Misplaced`], the first fault there is.
pub fn read<T: DeserializeOwned>(value: Value) -> Result<T, Misplaced> {
    // serde would take an array for an object, by position.
    if !value.is_object() {
        return Err(Misplaced { place: None, cure: "expected a JSON object".into() });
    }
    serde_path_to_error::deserialize(value).map_err(|error| Misplaced::of(&error))
}

impl Misplaced {
    /// What serde found.
    pub fn of<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> Self {
        let message = error.inner().to_string();
        let path = error.path().to_string();
        let missing =
            message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
        let place = match (path.as_str(), missing) {
            (".", None) => None,
            (".", Some(field)) => Some(field.to_owned()),
            (path, None) => Some(path.to_owned()),
            (path, Some(field)) => Some(format!("{path}.{field}")),
        };
        Self { place, cure: cure(&message) }
    }
}

/// What serde expects comes last in its message; what it got, before.
fn cure(message: &str) -> String {
    let Some((_, expected)) = message.rsplit_once(", expected ") else {
        return if message.starts_with("unknown field") { "unknown field" } else { message }.into();
    };
    if message.starts_with("unknown field") {
        format!("unknown field; expected {expected}")
    } else {
        format!("expected {expected}")
    }
}

/// Text for people: at most 10,000 characters, none of them NUL, which
/// Postgres cannot store.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
pub struct Text(#[schemars(length(max = 10_000), regex(pattern = r"^[^\u0000]*$"))] String);

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.chars().nth(10_000).is_some() {
            return Err("at most 10000 characters");
        }
        if text.contains('\0') {
            return Err("text without the character U+0000");
        }
        Ok(Self(text))
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// What names a deployment in URLs.
pub const API_NAME: &str = "letters, digits, _ and -, 1 to 64";

/// Whether a deployment may have this name.
pub fn is_api_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// What names a workflow or a platform key for people.
pub const NAME: &str = "1 to 200 characters";

/// Characters of such a name.
pub const MAX_NAME: usize = 200;

/// Whether this may be such a name.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().nth(MAX_NAME).is_none()
}
