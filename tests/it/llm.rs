//! The step `llm`, over real HTTP against a server of this project's own.

use reqwest::Method;
use serde_json::{Value, json};

use crate::llm_server::{Asked, KEY, LlmServer, Reply, chat, chat_costing, refusal};
use crate::support::{Database, ORG, Server, Starting, Target, json_of};
use crate::wire::{call, managed};

fn schema() -> Value {
    json!({"type": "object", "required": ["vendor"], "properties": {
        "vendor": {"type": "string"}, "total": {"type": "number"}}})
}

/// A server whose `[[connections]]` hold the models, and its platform key.
async fn server(database: &Database, changes: &str) -> (Server, String) {
    let server = Server::start_with(database, changes).await;
    let key = server.api.organisation(ORG).await;
    (server, key)
}

/// A deployment of one `llm` step that asks `model`.
async fn deploy(server: &Server, key: &str, name: &str, more: Value) -> Target {
    let mut with = json!({"connection": "model", "prompt": "Who sent this? {{ text }}"});
    let mut step = json!({"uses": "llm"});
    for (field, value) in more.as_object().unwrap() {
        match field.as_str() {
            "retry" => step[field] = value.clone(),
            _ => with[field] = value.clone(),
        }
    }
    step["with"] = with;
    server.api.deploy_in(ORG, key, name, json!([step]), json!({})).await
}

/// What one run gives, or its error.
async fn run(server: &Server, target: &Target, text: &str) -> Result<Value, Value> {
    let id = server.api.accepted(target, &json!({"input_data": {"text": text}})).await;
    let ended = server.api.ended(target, &id).await;
    match ended["status"].as_str().unwrap() {
        "COMPLETED" => Ok(server.api.result(target, &id).await[0]["result"]["output"].clone()),
        _ => Err(ended["error"].clone()),
    }
}

/// No pause worth waiting for.
fn at_once(attempts: u32) -> Value {
    json!({"attempts": attempts, "delay_seconds": 0})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_asked_what_the_templates_say_and_its_words_are_the_output() {
    let model = LlmServer::start(|_, _| chat(" Acme \n")).await;
    let database = Database::sqlite();
    let (server, key) = server(&database, &model.declared("model", "max_output_tokens = 77")).await;
    let more = json!({"system": "You read {{ input_data.kind | default('papers') }}.",
        "temperature": 0.5});
    let target = deploy(&server, &key, "text", more).await;
    assert_eq!(run(&server, &target, "Acme Ltd.").await.unwrap(), " Acme \n");
    let asked = &model.asked()[0];
    assert_eq!(asked.path, "/v1/chat/completions");
    assert_eq!(asked.headers["authorization"], format!("Bearer {KEY}"));
    assert_eq!(
        asked.body,
        json!({"model": "m-1", "max_tokens": 77, "temperature": 0.5, "messages": [
            {"role": "system", "content": "You read papers."},
            {"role": "user", "content": "Who sent this? Acme Ltd."}]})
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_the_schema_is_repaired_by_the_model_and_not_for_ever() {
    let answers = |before: usize, asked: &Asked| match (asked.prompt().contains("never"), before) {
        (true, _) => chat("{\"vendor\": 3}"),
        (false, 0) => chat("I think it is Acme."),
        (false, 1) => chat("```json\n{\"total\": 1}\n```"),
        (false, _) => chat("```json\n{\"vendor\": \"Acme\"}\n```"),
    };
    let model = LlmServer::start(move |before, asked| {
        // The conversation begins with what it is about.
        let first = &asked.messages()[1]["content"];
        let about = Asked { body: json!({"messages": [{"content": first}]}), ..asked.clone() };
        answers(before, &about)
    })
    .await;
    let database = Database::sqlite();
    let (server, key) = server(&database, &model.declared("model", "")).await;
    let target = deploy(&server, &key, "schema", json!({"schema": schema()})).await;
    assert_eq!(run(&server, &target, "Acme").await.unwrap(), json!({"vendor": "Acme"}));
    let asked = model.asked();
    assert_eq!(asked.len(), 3);
    assert_eq!(asked[0].body["response_format"]["json_schema"]["schema"], schema());
    assert!(asked[0].messages()[0]["content"].as_str().unwrap().contains("\"vendor\""));
    let repair = asked[2].messages();
    assert_eq!(repair[2]["content"], "I think it is Acme.");
    assert_eq!(repair[4]["content"], "```json\n{\"total\": 1}\n```");
    assert!(repair[5]["content"].as_str().unwrap().contains("\"vendor\" is a required property"));

    let error = run(&server, &target, "never").await.unwrap_err();
    assert_eq!(error["code"], "llm_answer_invalid");
    assert_eq!(model.asked().len(), 6, "the first answer and two repairs");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_provider_is_asked_again_after_the_pause_that_it_asks_for() {
    let model = LlmServer::start(|before, _| match before {
        0 => refusal(429, "retry-after: 1\r\n"),
        1 => refusal(500, ""),
        2 => refusal(503, "retry-after-ms: 20\r\n"),
        3 => Reply::Raw(200, "", "no JSON".into()),
        _ => chat("Acme"),
    })
    .await;
    let database = Database::sqlite();
    let (server, key) = server(&database, &model.declared("model", "")).await;
    let target = deploy(&server, &key, "busy", json!({"retry": at_once(5)})).await;
    let began = std::time::Instant::now();
    assert_eq!(run(&server, &target, "x").await.unwrap(), "Acme");
    // Nothing else pauses here: the least is what was asked for.
    assert!(began.elapsed() >= std::time::Duration::from_millis(1020));
    assert_eq!(model.asked().len(), 5);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_has_its_code_and_none_tells_what_the_provider_said_or_where_it_is() {
    let said = |status: u16, code: &str| {
        let body = json!({"error": {"message": "canary-provider-words", "code": code}});
        Reply::Raw(status, "", body.to_string())
    };
    let finished = |reason: &str| {
        let body = json!({"choices": [{"finish_reason": reason,
            "message": {"role": "assistant", "content": "canary-provider-words"}}]});
        Reply::Raw(200, "", body.to_string())
    };
    let model = LlmServer::start(move |_, asked| match asked.prompt() {
        "Who sent this? 401" => said(401, "x"),
        "Who sent this? 403" => said(403, "x"),
        "Who sent this? quota" => said(429, "insufficient_quota"),
        "Who sent this? 400" => said(400, "x"),
        "Who sent this? 404" => said(404, "model_not_found"),
        "Who sent this? 302" => Reply::Raw(302, "location: http://127.0.0.1:1/\r\n", String::new()),
        "Who sent this? long" => said(400, "context_length_exceeded"),
        "Who sent this? 413" => said(413, "x"),
        "Who sent this? 503" => said(503, "x"),
        "Who sent this? cut" => finished("length"),
        "Who sent this? filtered" => finished("content_filter"),
        "Who sent this? huge" => chat("x".repeat(9 * 1024 * 1024)),
        other => panic!("{other}"),
    })
    .await;
    let changes = format!(
        "{}{}",
        model.declared("model", "context_tokens = 5000"),
        model.declared("away", "").replace(&model.url, "http://127.0.0.1:1/v1")
    );
    let (server, key) = server(&Database::sqlite(), &changes).await;
    let target = deploy(&server, &key, "refusals", json!({"retry": at_once(1)})).await;
    let long = "x".repeat(20_000);
    for (text, code) in [
        ("401", "llm_refused"),
        ("403", "llm_refused"),
        ("quota", "llm_refused"),
        ("400", "llm_request_refused"),
        ("404", "llm_request_refused"),
        ("302", "llm_request_refused"),
        ("long", "llm_input_too_long"),
        ("413", "llm_input_too_long"),
        ("503", "llm_unavailable"),
        ("cut", "llm_answer_cut"),
        ("filtered", "llm_answer_withheld"),
        ("huge", "llm_answer_invalid"),
        (&long, "llm_input_too_long"),
    ] {
        let error = run(&server, &target, text).await.unwrap_err();
        assert_eq!(error["code"], code, "{text:.20}: {error}");
        let shown = error.to_string();
        for secret in ["canary", "127.0.0.1", KEY] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert_eq!(model.asked().len(), 12, "what is too long for certain is not sent");
    let away = deploy(&server, &key, "away", json!({"connection": "away", "retry": at_once(2)}));
    let error = run(&server, &away.await, "x").await.unwrap_err();
    assert_eq!(error["code"], "llm_unavailable");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_hangs_ends_at_its_own_time_limit_and_at_a_cancel() {
    let model = LlmServer::start(|_, _| Reply::Never).await;
    let database = Database::sqlite();
    let (server, key) = server(&database, &model.declared("model", "")).await;
    let limited = json!({"timeout_seconds": 1, "retry": at_once(1)});
    let target = deploy(&server, &key, "limited", limited).await;
    let error = run(&server, &target, "x").await.unwrap_err();
    assert_eq!(error["code"], "llm_unavailable");
    model.is_left().await;

    let hanging = LlmServer::start(|_, _| Reply::Never).await;
    let write = json!({"name": "stored", "kind": "llm", "provider": "openai", "model": "m",
        "base_url": hanging.url});
    json_of(call(&server.api, Method::POST, &managed("connection/"), &key, &write).await, 201)
        .await;
    let target = deploy(&server, &key, "blocked", json!({"connection": "stored"})).await;
    let error = run(&server, &target, "x").await.unwrap_err();
    assert_eq!(error["code"], "blocked_destination");
    assert!(hanging.asked().is_empty(), "a stored connection does not reach this machine");

    let target = deploy(&server, &key, "cancelled", json!({})).await;
    let body = json!({"input_data": {"text": "x"}});
    let id = server.api.accepted(&target, &body).await;
    model.hears(2).await;
    let path = format!("/deployment/{}/cancel/{id}/", target.public_id);
    json_of(server.api.post(&path, &target.key).send().await.unwrap(), 202).await;
    assert_eq!(server.api.ended(&target, &id).await["status"], "STOPPED");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_cost_are_what_the_provider_told_and_estimated_where_it_told_nothing() {
    let model = LlmServer::start(|before, asked| match (asked.prompt(), before) {
        ("Who sent this? silent", _) => {
            let body = json!({"choices": [{"finish_reason": "stop",
                "message": {"role": "assistant", "content": "123456"}}]});
            Reply::Raw(200, "", body.to_string())
        }
        (_, 0) => chat_costing("nothing", 1000, 10),
        _ => chat_costing("{\"vendor\": \"Acme\"}", 2000, 20),
    })
    .await;
    let database = Database::sqlite();
    let prices = "input_price = 2.5\noutput_price = 10.0";
    let changes = format!(
        "{}{}",
        model.declared("model", prices),
        model.declared("other", "").replace("m-1", "m-2")
    );
    let (server, key) = server(&database, &changes).await;
    let target = deploy(&server, &key, "paid", json!({"schema": schema()})).await;
    run(&server, &target, "x").await.unwrap();
    let silent = deploy(&server, &key, "silent", json!({"connection": "other"})).await;
    run(&server, &silent, "silent").await.unwrap();
    // A stop flushes what was counted.
    server.stop().await;
    let server = Server::start_with(&database, &changes).await;
    let used = async |target: &Target| {
        let path = managed(&format!("api-deployment/{}/usage/", target.id));
        json_of(server.api.get(&path, &key).send().await.unwrap(), 200).await
    };
    let models = used(&target).await["total"]["models"].clone();
    assert_eq!(
        models,
        json!({"m-1": {"prompt_tokens": 3000, "completion_tokens": 30, "embedding_tokens": 0,
            "cost_in_dollars": 0.0078}})
    );
    let models = used(&silent).await["total"]["models"].clone();
    assert_eq!(
        models,
        json!({"m-2": {"prompt_tokens": 7, "completion_tokens": 2, "embedding_tokens": 0,
            "cost_in_dollars": 0.0}})
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_comes_into_a_log_and_none_is_taken_from_the_environment() {
    let model = LlmServer::start(|before, _| match before {
        0 => refusal(500, ""),
        _ => chat("canary-answer-words"),
    })
    .await;
    let database = Database::sqlite();
    let log = database.folder.path().join("log");
    // Without a key of its own.
    let declared = model.declared("model", "").replace(&format!("api_key = \"{KEY}\"\n"), "");
    let keyed = model.declared("keyed", "");
    let config = database.folder.path().join("llm.toml");
    std::fs::write(&config, format!("{declared}{keyed}")).unwrap();
    let changes = [
        ("OPENAI_API_KEY", "canary-of-the-environment"),
        ("OPENAI_BASE_URL", "http://127.0.0.1:1"),
        ("HTTP_PROXY", "http://127.0.0.1:1"),
        ("MILLRACE_LOG__LEVEL", "trace,sqlx=info"),
    ];
    let arguments = ["--config", config.to_str().unwrap()];
    let file = std::fs::File::create(&log).unwrap();
    let process = Starting::spawn(&database, &arguments, &changes, file.into()).ready().await;
    let key = process.api.organisation(ORG).await;
    for name in ["model", "keyed"] {
        let steps = json!([{"uses": "llm", "with": {"connection": name,
            "prompt": "canary-prompt-words {{ text }}"}, "retry": at_once(3)}]);
        let target = process.api.deploy_in(ORG, &key, name, steps, json!({})).await;
        let body = json!({"input_data": {"text": "canary-text"}});
        let id = process.api.accepted(&target, &body).await;
        assert_eq!(process.api.ended(&target, &id).await["status"], "COMPLETED");
    }
    let asked = model.asked();
    assert_eq!(asked.len(), 3);
    assert!(
        !asked[0].headers.contains_key("authorization")
            && !asked[1].headers.contains_key("authorization")
    );
    assert_eq!(asked[2].headers["authorization"], format!("Bearer {KEY}"));
    assert!(process.terminate());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("a model was asked"), "the log is there");
    let line = log.lines().find(|line| line.contains("canary"));
    assert!(line.is_none(), "{}", line.unwrap_or_default());
}
