//! `generateContent` (<https://ai.google.dev/api/generate-content>).

use serde_json::{Value, json};

use super::wire::{Asked, count, set};
use super::{End, Reply, Role};

pub(super) fn request(asked: &Asked<'_>) -> (Vec<String>, Value) {
    let ask = asked.ask;
    let said = ask.messages.iter().map(|message| {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "model",
        };
        json!({"role": role, "parts": [{"text": message.text}]})
    });
    let contents: Vec<Value> = said.collect();
    let mut how = json!({"maxOutputTokens": asked.max_output_tokens});
    if let Some(temperature) = ask.options.temperature {
        set(&mut how, "temperature", temperature);
    }
    if let Some(schema) = asked.schema() {
        set(&mut how, "responseJsonSchema", schema.clone());
    }
    if asked.schema().is_some() || asked.wants_object() {
        set(&mut how, "responseMimeType", "application/json");
    }
    let mut body = json!({"contents": contents, "generationConfig": how});
    if let Some(system) = &ask.system {
        set(&mut body, "systemInstruction", json!({"parts": [{"text": system}]}));
    }
    let model = asked.settings.model.trim_start_matches("models/");
    (vec!["models".into(), format!("{model}:generateContent")], body)
}

pub(super) fn reply(body: &Value) -> Option<Reply> {
    let candidate = body.pointer("/candidates/0");
    let end = match candidate {
        // A blocked prompt has no candidates.
        None => body.pointer("/promptFeedback/blockReason").map(|_| End::Withheld)?,
        Some(candidate) => match candidate.get("finishReason").and_then(Value::as_str) {
            None | Some("STOP") => End::Whole,
            Some("MAX_TOKENS") => End::Cut,
            Some(_) => End::Withheld,
        },
    };
    let parts = candidate.and_then(|candidate| candidate.pointer("/content/parts"));
    let parts = parts.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if parts.is_empty() && end == End::Whole {
        return None;
    }
    let words = parts.iter().filter(|part| part.get("thought").is_none_or(|is| is == false));
    // Thoughts are paid for as the answer is.
    let given = ["/usageMetadata/candidatesTokenCount", "/usageMetadata/thoughtsTokenCount"];
    let given: Vec<u64> = given.iter().filter_map(|place| count(body, place)).collect();
    Some(Reply {
        text: words.filter_map(|part| part.get("text").and_then(Value::as_str)).collect(),
        end,
        prompt_tokens: count(body, "/usageMetadata/promptTokenCount"),
        completion_tokens: (!given.is_empty()).then(|| given.iter().sum()),
    })
}
