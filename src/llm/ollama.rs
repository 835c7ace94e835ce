//! `/api/chat` (<https://docs.ollama.com/api/chat>).

use serde_json::{Value, json};

use super::wire::{Asked, count, set};
use super::{End, Reply, openai};

pub(super) fn request(asked: &Asked<'_>) -> (Vec<String>, Value) {
    let messages = openai::messages(asked.ask);
    let mut options = json!({"num_predict": asked.max_output_tokens});
    if let Some(temperature) = asked.ask.options.temperature {
        set(&mut options, "temperature", temperature);
    }
    // What is longer than its own default would be cut without a word.
    if let Some(context_tokens) = asked.settings.context_tokens {
        set(&mut options, "num_ctx", context_tokens);
    }
    let mut body = json!({"model": asked.settings.model, "messages": messages, "stream": false,
        "options": options});
    if let Some(schema) = asked.schema() {
        set(&mut body, "format", schema.clone());
    } else if asked.wants_object() {
        set(&mut body, "format", "json");
    }
    (vec!["api".into(), "chat".into()], body)
}

pub(super) fn reply(body: &Value) -> Option<Reply> {
    let text = body.pointer("/message/content").and_then(Value::as_str)?;
    let is_cut = body.get("done_reason").is_some_and(|reason| reason == "length");
    Some(Reply {
        text: text.to_owned(),
        end: if is_cut { End::Cut } else { End::Whole },
        prompt_tokens: count(body, "/prompt_eval_count"),
        completion_tokens: count(body, "/eval_count"),
    })
}
