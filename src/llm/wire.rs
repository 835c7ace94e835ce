//! What the protocols share: a call as it is sent, and the way to its answer.

use reqwest::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::provider::{JsonMode, Protocol};
use super::{Ask, Reply, Settings, anthropic, gemini, ollama, openai};

/// What a protocol needs of the model that is asked.
pub(super) struct Asked<'a> {
    pub(super) settings: &'a Settings,
    pub(super) json_mode: JsonMode,
    pub(super) max_output_tokens: u32,
    pub(super) ask: &'a Ask,
}

impl Asked<'_> {
    /// The schema that the provider is given. They take objects alone; what
    /// is asked for besides is in the prompt's words and checked here.
    pub(super) fn schema(&self) -> Option<&Value> {
        let schema = self.ask.schema.as_deref()?;
        (self.json_mode == JsonMode::Schema && is_object(schema)).then_some(schema)
    }

    /// Whether the provider keeps the model to JSON of whatever form.
    pub(super) fn wants_object(&self) -> bool {
        self.json_mode == JsonMode::Object && self.ask.schema.as_deref().is_some_and(is_object)
    }
}

fn is_object(schema: &Value) -> bool {
    schema.get("type").and_then(Value::as_str) == Some("object")
}

/// The path below the base URL, in segments, and the body.
pub(super) fn request(protocol: Protocol, asked: &Asked<'_>) -> (Vec<String>, Value) {
    match protocol {
        Protocol::OpenAi => openai::request(asked),
        Protocol::Anthropic => anthropic::request(asked),
        Protocol::Gemini => gemini::request(asked),
        Protocol::Ollama => ollama::request(asked),
    }
}

/// A header that every call of a protocol carries.
pub(super) fn header(protocol: Protocol) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = match protocol {
        Protocol::Anthropic => anthropic::VERSION,
        Protocol::OpenAi | Protocol::Gemini | Protocol::Ollama => return None,
    };
    Some((HeaderName::from_static(name), HeaderValue::from_static(value)))
}

/// What an answer says; none if it is not of the protocol.
pub(super) fn reply(protocol: Protocol, body: &Value) -> Option<Reply> {
    match protocol {
        Protocol::OpenAi => openai::reply(body),
        Protocol::Anthropic => anthropic::reply(body),
        Protocol::Gemini => gemini::reply(body),
        Protocol::Ollama => ollama::reply(body),
    }
}

/// Sets a member of an object.
pub(super) fn set(object: &mut Value, name: &str, value: impl Into<Value>) {
    if let Value::Object(members) = object {
        members.insert(name.to_owned(), value.into());
    }
}

/// The count at a pointer, if the provider tells it.
pub(super) fn count(body: &Value, pointer: &str) -> Option<u64> {
    body.pointer(pointer).and_then(Value::as_u64)
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The prompt is longer than the model takes.
    TooLong,
    /// The account has nothing left to spend.
    NoQuota,
    /// Anything else.
    Other,
}

/// What the body of a refusal says: by OpenAI's codes, and by the words of
/// providers that have none.
pub(super) fn refusal(body: &[u8]) -> Refusal {
    let text = String::from_utf8_lossy(body).to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if says(&["insufficient_quota"]) {
        Refusal::NoQuota
    } else if says(&[
        "context_length_exceeded",
        "maximum context length",
        "context window",
        "prompt is too long",
        "input is too long",
        "exceeds the maximum number of tokens",
        "exceed context",
    ]) {
        Refusal::TooLong
    } else {
        Refusal::Other
    }
}
