//! Steps that are passed over, and documents that go on after a failure.

use std::collections::HashMap;

use reqwest::Method;
use serde_json::{Value, json};

use crate::event_stream::{assert_increasing, briefs, follow};
use crate::support::{Api, Process, Server, Target, json_of, on_each_database};
use crate::wire::{call, cancel, managed, places};

/// So that the other node counts as gone soon.
const SHORT_LEASE: &[(&str, &str)] = &[("MILLRACE_ENGINE__LEASE_SECONDS", "2")];

/// A step that ends only when it is killed.
fn endless(id: &str) -> Value {
    json!({"id": id, "uses": "jq", "with": {"filter": "def f: f; f", "timeout_seconds": 60}})
}

fn jq(id: &str, filter: &str) -> Value {
    json!({"id": id, "uses": "jq", "with": {"filter": filter}})
}

/// The step with further members.
#[expect(clippy::needless_pass_by_value, reason = "its callers read better so")]
fn with(mut step: Value, members: Value) -> Value {
    step.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    step
}

async fn read(api: &Api, target: &Target, path: &str) -> Value {
    let path = managed(&format!("execution/{path}"));
    json_of(api.get(&path, &target.platform_key).send().await.unwrap(), 200).await
}

/// The recorded steps by their ids.
async fn steps(api: &Api, target: &Target, id: &str) -> HashMap<String, Value> {
    let found = read(api, target, &format!("{id}/steps/?include_output=true&page_size=50")).await;
    let found = found["results"].as_array().unwrap().iter();
    found.map(|step| (step["step"].as_str().unwrap().to_owned(), step.clone())).collect()
}

async fn rerun_from(api: &Api, target: &Target, id: &str, step: &str) -> String {
    let path = managed(&format!("execution/{id}/rerun/"));
    let body = json!({"from_step": step});
    let made = call(api, Method::POST, &path, &target.platform_key, &body).await;
    let made = json_of(made, 202).await;
    let id = made["execution_id"].as_str().unwrap().to_owned();
    api.ended(target, &id).await;
    id
}

/// Where faults of a workflow of these steps are.
async fn faults(api: &Api, target: &Target, steps: Value) -> Vec<String> {
    let write = json!({"name": "w", "type": "TASK", "steps": steps});
    let path = managed("workflow/");
    let answer = call(api, Method::POST, &path, &target.platform_key, &write).await;
    let body = json_of(answer, 400).await;
    places(&body).into_iter().map(ToOwned::to_owned).collect()
}

/// Ends the server when the step has begun, starts it again, waits for that
/// step's next beginning and stops it; the recorded steps then.
async fn recorded_through_a_restart(
    database: &crate::support::Database,
    target: &Target,
    server: Process,
    id: &str,
    step: &str,
) -> HashMap<String, Value> {
    let began = format!("input_data {step} started");
    follow(&server.api, target, id, None).await.until(&began).await;
    server.kill();
    let server = Process::start(database, SHORT_LEASE).await;
    let api = &server.api;
    // Until it has been taken over, the key may not be known.
    while api.get(&managed("execution/"), &target.platform_key).send().await.unwrap().status()
        != 200
    {}
    follow(api, target, id, None).await.until(&began).await;
    let events = follow(api, target, id, None).await;
    assert_eq!(cancel(api, target, id).await.status(), 202);
    assert_eq!(api.ended(target, id).await["status"], "STOPPED");
    assert_increasing(&events.rest().await);
    steps(api, target, id).await
}

on_each_database! {
    async fn a_step_whose_condition_does_not_hold_is_passed_over_and_the_next_gets_its_input(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(json!([
            jq("kind", "{kind: ., seen: true}"),
            with(jq("large", ". + {large: true}"), json!({"when": "input.kind == 'large'"})),
            with(jq("after", ". + {after: true}"), json!({"when": "steps.large is defined", "input": "/steps/large"})),
            with(jq("last", ". + {last: true}"), json!({"when": "parameters.last"})),
        ])).await;
        for (input, last, expected) in [
            ("large", true, json!({"kind": "large", "seen": true, "large": true, "after": true, "last": true})),
            ("large", false, json!({"kind": "large", "seen": true, "large": true, "after": true})),
            ("small", false, json!({"kind": "small", "seen": true})),
        ] {
            let body = json!({"input_data": input, "parameters": {"last": last}, "include_metrics": true});
            let id = api.accepted(&target, &body).await;
            let ended = api.ended(&target, &id).await;
            assert_eq!(ended["status"], "COMPLETED");
            assert_eq!(ended["steps"], json!({"total": 4, "done": 4, "failed": 0}));
            let result = api.result(&target, &id).await;
            assert_eq!(result[0]["result"]["output"], expected);
            assert_eq!(result[0]["result"]["metrics"].get("last").is_some(), last);
        }
        // The last step was passed over: the document still ends well.
        let id = api.accepted(&target, &json!({"input_data": "small"})).await;
        api.ended(&target, &id).await;
        let told = steps(api, &target, &id).await;
        let brief = |step: &str| (told[step]["state"].clone(), told[step]["tries"].clone(), told[step]["output"].clone());
        assert_eq!(brief("kind"), (json!("completed"), json!(1), json!({"kind": "small", "seen": true})));
        for step in ["large", "after", "last"] {
            assert_eq!(brief(step), (json!("skipped"), json!(0), Value::Null), "{step}");
        }
        let events = follow(api, &target, &id, None).await.rest().await;
        assert_eq!(briefs(&events)[3..], [
            "input_data kind started", "input_data kind completed",
            "input_data large started", "input_data large skipped",
            "input_data after started", "input_data after skipped",
            "input_data last started", "input_data last skipped",
            "input_data completed", "COMPLETED",
        ]);
        let again = rerun_from(api, &target, &id, "last").await;
        let taken_over = steps(api, &target, &again).await;
        assert_eq!((&taken_over["large"]["state"], &taken_over["large"]["attempt"]), (&json!("skipped"), &json!(0)));
        assert_eq!(api.result(&target, &again).await[0]["result"]["output"], json!({"kind": "small", "seen": true}));
        server.stop().await;
        // What the rows tell is what was told from memory.
        let server = Server::start(&database).await;
        assert_eq!(follow(&server.api, &target, &id, None).await.rest().await, events);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_condition_is_bounded_and_one_that_cannot_be_told_fails_its_step(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation("acme").await;
        for (name, when) in [
            ("product", "('a' * 9000000000) == 'b'"),
            ("pieces", "range(9999)|map('string')|join(range(9999)|join(','))|length"),
            ("indent", "('a' | indent(9000000000))|length"),
            ("filter", "input | int > 3"),
        ] {
            let steps = json!([with(jq("one", "."), json!({"when": when}))]);
            let target = api.deploy_in("acme", &key, name, steps, json!({})).await;
            let id = api.accepted(&target, &json!({"input_data": "s3cr3t"})).await;
            let ended = api.ended(&target, &id).await;
            assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("ERROR"), &json!("condition_failed")), "{name}");
            assert!(!ended.to_string().contains("s3cr3t"), "{ended}");
        }
        let target = api.deploy_in("acme", &key, "plain", json!([jq("one", ".")]), json!({})).await;
        for wrong in [json!("input."), json!("a b"), json!("%}{{"), json!(""), json!(1), json!("x".repeat(5000)), json!("(".repeat(4000))] {
            let found = faults(api, &target, json!([jq("a", "."), with(jq("b", "."), json!({"when": wrong}))])).await;
            assert_eq!(found, ["steps[1].when"], "{wrong}");
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn what_was_passed_over_stays_so_through_a_death(database) {
        let server = Process::start(&database, SHORT_LEASE).await;
        let skipped = with(jq("skipped", "."), json!({"when": "false"}));
        let target = server.api.deploy(json!([skipped, endless("endless")])).await;
        let id = server.api.accepted(&target, &json!({"input_data": 1})).await;
        let told = recorded_through_a_restart(&database, &target, server, &id, "endless").await;
        assert_eq!((&told["skipped"]["state"], &told["skipped"]["attempt"]), (&json!("skipped"), &json!(1)));
        assert_eq!((&told["endless"]["state"], &told["endless"]["attempt"]), (&json!("stopped"), &json!(2)));
    }
}

on_each_database! {
    async fn a_document_goes_on_after_a_failure_where_its_step_says_so(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation("acme").await;
        let failing = |on_error: &str| {
            json!([jq("one", ". + 1"), with(jq("two", "error(\"no\")"), json!({"on_error": on_error, "retry": {"attempts": 2, "delay_seconds": 0, "errors": ["jq_failed"]}})),
                jq("three", "{got: ., seen: ($context.steps | keys)}")])
        };
        let mut told_live = Vec::new();
        for (on_error, state, output) in [
            ("skip", "skipped", json!({"got": 2, "seen": ["one"]})),
            ("continue", "failed", json!({"got": {"error": {"code": "jq_failed"}}, "seen": ["one", "two"]})),
        ] {
            let target = api.deploy_in("acme", &key, on_error, failing(on_error), json!({})).await;
            let id = api.accepted(&target, &json!({"input_data": 1, "include_metrics": true})).await;
            let ended = api.ended(&target, &id).await;
            assert_eq!((&ended["status"], &ended["documents"]["failed"]), (&json!("COMPLETED"), &json!(0)));
            let result = api.result(&target, &id).await;
            assert_eq!((&result[0]["status"], &result[0]["error"]), (&json!("Success"), &Value::Null));
            let mut got = result[0]["result"]["output"].clone();
            if let Some(error) = got["got"].get_mut("error") {
                assert!(error.as_object_mut().unwrap().remove("detail").unwrap().is_string());
            }
            assert_eq!(got, output);
            assert_eq!(result[0]["result"]["metrics"]["two"]["tries"], 2);
            let told = steps(api, &target, &id).await;
            assert_eq!((&told["two"]["state"], &told["two"]["tries"]), (&json!(state), &json!(2)));
            assert_eq!(told["two"]["error"]["code"], "jq_failed");
            assert_eq!(told["two"]["output"]["error"]["code"].is_string(), on_error == "continue");
            let events = follow(api, &target, &id, None).await.rest().await;
            let two = format!("input_data two {state}");
            assert_eq!(briefs(&events)[5..], [
                "input_data two started", &two, "input_data three started",
                "input_data three completed", "input_data completed", "COMPLETED",
            ]);
            assert_eq!(events[6].data["error"]["code"], "jq_failed");
            assert!(events[9..].iter().all(|event| event.data.get("error").is_none()));
            // What it went on with is taken over.
            let again = rerun_from(api, &target, &id, "three").await;
            let taken_over = steps(api, &target, &again).await;
            assert_eq!((&taken_over["two"]["state"], &taken_over["two"]["attempt"]), (&json!(state), &json!(0)));
            assert_eq!(api.result(&target, &again).await[0]["result"]["output"], result[0]["result"]["output"]);
            told_live.push((target, id, events));
        }
        server.stop().await;
        // From the rows alone.
        let server = Server::start(&database).await;
        for (target, id, events) in told_live {
            assert_eq!(follow(&server.api, &target, &id, None).await.rest().await, events);
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn a_failure_that_is_the_last_or_follows_another_ends_its_document_as_its_step_says(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation("acme").await;
        let bad = |id: &str, on_error: &str| with(jq(id, "error(\"no\")"), json!({"on_error": on_error}));
        for (name, steps, status, output) in [
            ("last-skip", json!([bad("a", "skip")]), "COMPLETED", json!(1)),
            ("last-continue", json!([jq("z", "2"), bad("a", "continue")]), "COMPLETED", json!("jq_failed")),
            ("both", json!([bad("a", "skip"), bad("b", "skip"), jq("c", ". + 1")]), "COMPLETED", json!(2)),
            ("then-fail", json!([bad("a", "continue"), bad("b", "fail")]), "ERROR", Value::Null),
            ("no-input", json!([with(jq("a", "."), json!({"input": "/steps/none", "on_error": "skip"}))]), "COMPLETED", json!(1)),
            ("condition", json!([with(jq("a", "."), json!({"when": "document | int", "on_error": "skip"}))]), "COMPLETED", json!(1)),
        ] {
            let target = api.deploy_in("acme", &key, name, steps, json!({})).await;
            let id = api.accepted(&target, &json!({"input_data": 1})).await;
            assert_eq!(api.ended(&target, &id).await["status"], status, "{name}");
            let events = follow(api, &target, &id, None).await.rest().await;
            assert_eq!(briefs(&events).last().unwrap(), status, "{name}");
            if status == "COMPLETED" {
                let got = api.result(&target, &id).await[0]["result"]["output"].clone();
                assert_eq!(got.pointer("/error/code").unwrap_or(&got), &output, "{name}");
            }
        }
        let target = api.deploy_in("acme", &key, "plain", json!([jq("one", ".")]), json!({})).await;
        let found = faults(api, &target, json!([with(jq("a", "."), json!({"on_error": "ignore"}))])).await;
        assert_eq!(found, ["steps[0].on_error"]);
        server.stop().await;
    }
}

on_each_database! {
    async fn neither_a_cancel_nor_the_end_of_the_time_is_an_error_to_pass_over(database) {
        let server = Server::start_with(&database, "[engine]\ncancel_grace_seconds = 1").await;
        let api = &server.api;
        let key = api.organisation("acme").await;
        for on_error in ["skip", "continue"] {
            let steps = json!([with(endless("endless"), json!({"on_error": on_error})), jq("after", ".")]);
            let target = api.deploy_in("acme", &key, on_error, steps.clone(), json!({})).await;
            let id = api.accepted(&target, &json!({"input_data": 1})).await;
            let mut events = follow(api, &target, &id, None).await;
            events.until("input_data endless started").await;
            assert_eq!(cancel(api, &target, &id).await.status(), 202);
            assert_eq!(briefs(&events.rest().await), ["input_data endless stopped", "input_data stopped", "STOPPED"]);
            let settings = json!({"execution_timeout_seconds": 1});
            let target = api.deploy_in("acme", &key, &format!("{on_error}-timed"), steps, settings).await;
            let id = api.accepted(&target, &json!({"input_data": 1})).await;
            assert_eq!(api.ended(&target, &id).await["error"]["code"], "execution_timed_out");
            assert!(!self::steps(api, &target, &id).await.contains_key("after"));
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn a_failure_that_was_passed_over_is_not_tried_again_after_a_death(database) {
        let server = Process::start(&database, SHORT_LEASE).await;
        let bad = |id: &str, on_error: &str| with(jq(id, "error(\"no\")"), json!({"on_error": on_error}));
        let steps = json!([bad("passed", "skip"), bad("told", "continue"), endless("endless")]);
        let target = server.api.deploy(steps).await;
        let id = server.api.accepted(&target, &json!({"input_data": 1})).await;
        let told = recorded_through_a_restart(&database, &target, server, &id, "endless").await;
        for (step, state, attempt) in [("passed", "skipped", 1), ("told", "failed", 1), ("endless", "stopped", 2)] {
            assert_eq!((&told[step]["state"], &told[step]["attempt"]), (&json!(state), &json!(attempt)), "{step}");
        }
    }
}
