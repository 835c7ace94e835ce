//! Messages (<https://docs.claude.com/en/api/messages>).

use serde_json::{Value, json};

use super::wire::{Asked, count, set};
use super::{End, Reply};

/// The version of the protocol, by header.
pub(super) const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

pub(super) fn request(asked: &Asked<'_>) -> (Vec<String>, Value) {
    let ask = asked.ask;
    let said = ask
        .messages
        .iter()
        .map(|message| json!({"role": message.role.name(), "content": message.text}));
    let messages: Vec<Value> = said.collect();
    let mut body = json!({"model": asked.settings.model, "messages": messages,
        "max_tokens": asked.max_output_tokens});
    if let Some(system) = &ask.system {
        set(&mut body, "system", system.as_str());
    }
    if let Some(temperature) = ask.options.temperature {
        set(&mut body, "temperature", temperature);
    }
    if let Some(schema) = asked.schema() {
        set(
            &mut body,
            "output_config",
            json!({"format": {"type": "json_schema", "schema": schema}}),
        );
    }
    (vec!["messages".into()], body)
}

pub(super) fn reply(body: &Value) -> Option<Reply> {
    let parts = body.get("content")?.as_array()?;
    let texts = parts.iter().filter(|part| part.get("type").is_some_and(|kind| kind == "text"));
    let text = texts.filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
    let end = match body.get("stop_reason").and_then(Value::as_str) {
        Some("max_tokens" | "model_context_window_exceeded") => End::Cut,
        Some("refusal") => End::Withheld,
        _ => End::Whole,
    };
    // What was read from or written to the provider's own cache counts beside
    // the rest.
    let cached = ["/usage/cache_creation_input_tokens", "/usage/cache_read_input_tokens"];
    let cached: u64 = cached.iter().filter_map(|place| count(body, place)).sum();
    Some(Reply {
        text,
        end,
        prompt_tokens: count(body, "/usage/input_tokens").map(|tokens| tokens + cached),
        completion_tokens: count(body, "/usage/output_tokens"),
    })
}
