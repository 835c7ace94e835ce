//! What is sent to each provider, and what its answers say.

use super::provider::{PROVIDERS, Protocol, find};
use super::wire::{self, Asked, Refusal};
use super::*;
use serde_json::json;

fn settings(provider: &str) -> Settings {
    Settings {
        provider: provider.into(),
        base_url: None,
        model: "m/1".into(),
        api_key: None,
        input_price: Some(0.15),
        output_price: Some(0.6),
        max_output_tokens: None,
        context_tokens: Some(9000),
        json_mode: None,
    }
}

fn ask(schema: Option<Value>) -> Ask {
    let said = |role, text: &str| Message { role, text: text.into() };
    Ask {
        system: Some("s".into()),
        messages: vec![said(Role::User, "u"), said(Role::Assistant, "a"), said(Role::User, "v")],
        schema: schema.map(Arc::new),
        options: Options {
            temperature: Some(0.0),
            max_output_tokens: None,
            timeout: Duration::from_secs(1),
        },
    }
}

fn sent(name: &str, schema: Option<Value>) -> (String, Value) {
    let (settings, ask, provider) = (settings(name), ask(schema), find(name).unwrap());
    let asked = Asked {
        settings: &settings,
        json_mode: provider.json_mode,
        max_output_tokens: 7,
        ask: &ask,
    };
    let (path, body) = wire::request(provider.protocol, &asked);
    (path.join("/"), body)
}

#[test]
fn each_protocol_is_spoken_as_its_provider_wants_it() {
    let schema = json!({"type": "object", "properties": {"x": {}}});
    let messages = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "u"},
        {"role": "assistant", "content": "a"}, {"role": "user", "content": "v"}]);
    assert_eq!(
        sent("openai", Some(schema.clone())),
        (
            "chat/completions".into(),
            json!({"model": "m/1", "messages": messages, "max_completion_tokens": 7,
                "temperature": 0.0, "response_format": {"type": "json_schema",
                    "json_schema": {"name": "answer", "schema": schema}}})
        )
    );
    let (_, body) = sent("deepseek", Some(schema.clone()));
    assert_eq!(body["response_format"], json!({"type": "json_object"}));
    assert_eq!(body["max_tokens"], 7);
    let (_, body) = sent("openai", Some(json!({"type": "array"})));
    assert!(body.get("response_format").is_none(), "providers take objects alone");
    assert_eq!(
        sent("anthropic", Some(schema.clone())),
        (
            "messages".into(),
            json!({"model": "m/1", "messages": messages.as_array().unwrap()[1..], "max_tokens": 7,
                "system": "s", "temperature": 0.0})
        )
    );
    assert_eq!(
        sent("ollama", Some(schema.clone())),
        (
            "api/chat".into(),
            json!({"model": "m/1", "messages": messages, "stream": false, "format": schema,
                "options": {"num_predict": 7, "temperature": 0.0, "num_ctx": 9000}})
        )
    );
    let part = |role: &str, text: &str| json!({"role": role, "parts": [{"text": text}]});
    assert_eq!(
        sent("gemini", Some(schema.clone())),
        (
            "models/m/1:generateContent".into(),
            json!({"contents": [part("user", "u"), part("model", "a"), part("user", "v")],
                "systemInstruction": {"parts": [{"text": "s"}]},
                "generationConfig": {"maxOutputTokens": 7, "temperature": 0.0,
                    "responseJsonSchema": schema, "responseMimeType": "application/json"}})
        )
    );
}

#[test]
fn answers_are_read_with_their_tokens_and_their_ends() {
    let usage = json!({"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 4});
    for (protocol, body, expected) in [
        (
            Protocol::OpenAi,
            json!({"choices": [{"finish_reason": "stop", "message": {"content": "x"}}],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2}}),
            Some(("x", End::Whole, Some(3), Some(2))),
        ),
        (
            Protocol::OpenAi,
            json!({"choices": [{"finish_reason": "stop", "message": {"content": null, "refusal": "no"}}]}),
            Some(("", End::Withheld, None, None)),
        ),
        (
            Protocol::OpenAi,
            json!({"choices": [{"finish_reason": "length", "message": {"content": "x"}}]}),
            Some(("x", End::Cut, None, None)),
        ),
        (Protocol::OpenAi, json!({"choices": []}), None),
        (Protocol::OpenAi, json!({"choices": [{"message": {}}]}), None),
        (
            Protocol::Anthropic,
            json!({"content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "x"}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 1, "cache_read_input_tokens": 2, "output_tokens": 2}}),
            Some(("x", End::Whole, Some(3), Some(2))),
        ),
        (
            Protocol::Anthropic,
            json!({"content": [], "stop_reason": "refusal"}),
            Some(("", End::Withheld, None, None)),
        ),
        (
            Protocol::Gemini,
            json!({"candidates": [{"finishReason": "STOP", "content": {"parts": [
                {"text": "t", "thought": true}, {"text": "x"}]}}], "usageMetadata": usage}),
            Some(("x", End::Whole, Some(3), Some(6))),
        ),
        (
            Protocol::Gemini,
            json!({"promptFeedback": {"blockReason": "SAFETY"}}),
            Some(("", End::Withheld, None, None)),
        ),
        (Protocol::Gemini, json!({"error": {}}), None),
        (
            Protocol::Ollama,
            json!({"message": {"content": "x"}, "done_reason": "length",
                "prompt_eval_count": 3, "eval_count": 2}),
            Some(("x", End::Cut, Some(3), Some(2))),
        ),
        (Protocol::Ollama, json!([1]), None),
    ] {
        let expected = expected.map(|(text, end, prompt_tokens, completion_tokens)| Reply {
            text: text.into(),
            end,
            prompt_tokens,
            completion_tokens,
        });
        assert_eq!(wire::reply(protocol, &body), expected, "{body}");
    }
}

#[test]
fn every_provider_but_those_of_customers_own_resources_has_an_address() {
    for provider in PROVIDERS {
        let url = base_url(&settings(provider.name));
        assert_eq!(url.is_err(), provider.name == "azure", "{}", provider.name);
    }
}

#[test]
fn a_prompt_that_is_too_long_is_known_by_codes_and_by_words() {
    for (body, expected) in [
        ("{\"error\": {\"code\": \"context_length_exceeded\"}}", Refusal::TooLong),
        ("{\"error\": {\"message\": \"Prompt is too long: 210000 tokens\"}}", Refusal::TooLong),
        ("{\"error\": {\"code\": \"insufficient_quota\"}}", Refusal::NoQuota),
        ("<html>", Refusal::Other),
    ] {
        assert_eq!(wire::refusal(body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn cost_is_exact_to_a_fraction_of_a_token() {
    assert_eq!(settings("openai").cost_nanodollars(1000, 10), 156_000);
    assert_eq!(settings("openai").cost_nanodollars(1, 0), 150);
    assert_eq!(settings("openai").cost_nanodollars(0, u64::MAX), i64::MAX);
    let unpriced = Settings { input_price: None, output_price: None, ..settings("openai") };
    assert_eq!(unpriced.cost_nanodollars(1000, 10), 0);
}
