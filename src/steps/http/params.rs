//! Parameters of `http`.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Parameters of `http`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Name of a connection of kind `http`: its `base_url` is called, with its
    /// headers. Either this or `url`.
    #[serde(default)]
    pub(super) connection: Option<String>,
    /// A template of the whole URL, `http` or `https`, without user and
    /// password. Only public addresses are called.
    #[serde(default)]
    pub(super) url: Option<String>,
    /// The method.
    #[serde(default)]
    pub(super) method: Method,
    /// A template of a path below the URL. What a template puts in is encoded;
    /// `.` and `..` are refused.
    #[serde(default)]
    pub(super) path: Option<String>,
    /// Templates of the query's values, by name.
    #[serde(default)]
    pub(super) query: IndexMap<String, String>,
    /// Templates of headers, by name. Those of the connection go over them.
    #[serde(default)]
    pub(super) headers: IndexMap<String, String>,
    /// How the body is sent. By default `json`; `nothing` with `GET`, `HEAD`
    /// and `DELETE`, unless there is a `body`.
    #[serde(default)]
    pub(super) send: Option<Send>,
    /// The body: JSON whose texts are templates. A text that is one expression
    /// and nothing else, such as `"{{ input.total }}"`, becomes its value. By
    /// default what the step works on.
    #[serde(default)]
    pub(super) body: Option<Value>,
    /// In place of `body`, a JSON pointer to the value among `input_data`,
    /// `parameters`, `custom_data`, `document`, `steps` and `execution_id`.
    #[serde(default)]
    pub(super) body_from: Option<String>,
    /// With `send` document: the document is the part of this name in a
    /// multipart form, after the members of `body`. By default it is the body.
    #[serde(default)]
    pub(super) document_field: Option<String>,
    /// The statuses that count as success; by default 200 to 299.
    #[serde(default)]
    pub(super) expect: Vec<u16>,
    /// How the answer is read.
    #[serde(default)]
    pub(super) response: Answer,
    /// Most bytes of the answer, up to 16,777,216.
    #[serde(default = "max_response_bytes")]
    pub(super) max_response_bytes: usize,
    /// Time for the whole call, 1 to 300 seconds.
    #[serde(default = "timeout_seconds")]
    pub(super) timeout_seconds: u64,
    /// Whether calls that may change something carry the header
    /// `Idempotency-Key`, the same for every repetition.
    #[serde(default = "yes")]
    pub(super) idempotency_key: bool,
}

const fn max_response_bytes() -> usize {
    1_048_576
}

const fn timeout_seconds() -> u64 {
    30
}

const fn yes() -> bool {
    true
}

// Their meaning is that of RFC 9110 section 9 and RFC 5789.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    Get,
    Head,
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    pub(super) fn name(self) -> reqwest::Method {
        match self {
            Self::Get => reqwest::Method::GET,
            Self::Head => reqwest::Method::HEAD,
            Self::Post => reqwest::Method::POST,
            Self::Put => reqwest::Method::PUT,
            Self::Patch => reqwest::Method::PATCH,
            Self::Delete => reqwest::Method::DELETE,
        }
    }

    /// Whether it only reads.
    pub(super) fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head)
    }
}

/// How a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Send {
    /// As JSON.
    Json,
    /// An object as a form (`application/x-www-form-urlencoded`).
    Form,
    /// A string as it is.
    Text,
    /// The document in work.
    Document,
    /// No body.
    Nothing,
}

/// How an answer is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// As JSON; null if there is nothing.
    #[default]
    Json,
    /// As a string, in UTF-8.
    Text,
    /// Any bytes, as a string in base64.
    BytesBase64,
    /// Not at all.
    None,
}
