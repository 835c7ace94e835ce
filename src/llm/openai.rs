//! Chat completions
//! (<https://platform.openai.com/docs/api-reference/chat>).

use serde_json::{Value, json};

use super::wire::{Asked, count, set};
use super::{Ask, End, Reply};

/// The conversation, in the form that others have too.
pub(super) fn messages(ask: &Ask) -> Vec<Value> {
    let system = ask.system.iter().map(|text| json!({"role": "system", "content": text}));
    let said = ask
        .messages
        .iter()
        .map(|message| json!({"role": message.role.name(), "content": message.text}));
    system.chain(said).collect()
}

pub(super) fn request(asked: &Asked<'_>) -> (Vec<String>, Value) {
    let ask = asked.ask;
    let mut body = json!({"model": asked.settings.model, "messages": messages(ask)});
    set(&mut body, limit_name(asked), asked.max_output_tokens);
    if let Some(temperature) = ask.options.temperature {
        set(&mut body, "temperature", temperature);
    }
    if let Some(schema) = asked.schema() {
        // Not `strict`, which has a dialect of its own that makes every
        // property required: the answer is checked here anyway.
        set(
            &mut body,
            "response_format",
            json!({"type": "json_schema",
            "json_schema": {"name": "answer", "schema": schema}}),
        );
    } else if asked.wants_object() {
        set(&mut body, "response_format", json!({"type": "json_object"}));
    }
    (vec!["chat".into(), "completions".into()], body)
}

/// OpenAI's own newer models refuse the older name, servers like it the newer.
fn limit_name(asked: &Asked<'_>) -> &'static str {
    let is_own = match asked.settings.provider.as_str() {
        "azure" => true,
        "openai" => asked.settings.base_url.is_none(),
        _ => false,
    };
    if is_own { "max_completion_tokens" } else { "max_tokens" }
}

pub(super) fn reply(body: &Value) -> Option<Reply> {
    let choice = body.pointer("/choices/0")?;
    let message = choice.get("message")?;
    let refused = message.get("refusal").is_some_and(Value::is_string);
    let end = match choice.get("finish_reason").and_then(Value::as_str) {
        Some("length") => End::Cut,
        Some("content_filter") => End::Withheld,
        _ if refused => End::Withheld,
        _ => End::Whole,
    };
    let text = message.get("content").and_then(Value::as_str);
    Some(Reply {
        text: match (text, end) {
            (Some(text), _) => text.to_owned(),
            (None, End::Whole) => return None,
            (None, _) => String::new(),
        },
        end,
        prompt_tokens: count(body, "/usage/prompt_tokens"),
        completion_tokens: count(body, "/usage/completion_tokens"),
    })
}
