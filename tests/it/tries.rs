//! Steps that fail and are tried again, and steps that take too long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::event_stream::follow;
use crate::support::{Api, ORG, PATIENCE, Server, Target, json_of, on_each_database};
use crate::wire::{call, cancel, echo, managed, places, refusal};

/// Tries at once, with no pause between them.
fn at_once(attempts: u32) -> Value {
    json!({"attempts": attempts, "delay_seconds": 0})
}

/// A load into a database whose folder is made before the try `opens`; also
/// counts the tries.
fn closed_until(folder: String, opens: usize) -> Arc<AtomicUsize> {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    fail::cfg_callback("step-run", move || {
        if counted.fetch_add(1, Ordering::SeqCst) + 1 == opens {
            std::fs::create_dir(&folder).unwrap();
        }
    })
    .unwrap();
    tries
}

fn load(retry: Option<Value>) -> Value {
    let with = json!({"connection": "later", "table": "rows", "create_table": true});
    let mut step = json!({"id": "load", "uses": "load_sql", "with": with});
    if let Some(retry) = retry {
        step["retry"] = retry;
    }
    json!([step])
}

fn later(url: &str) -> String {
    format!(
        "[[connections]]\norg_id = \"{ORG}\"\nname = \"later\"\nkind = \"sql\"\nurl = \"{url}\""
    )
}

async fn read(api: &Api, target: &Target, path: &str) -> Value {
    let path = managed(&format!("execution/{path}"));
    json_of(api.get(&path, &target.platform_key).send().await.unwrap(), 200).await
}

/// Code of the error and tries of the only step.
async fn only_step(api: &Api, target: &Target, id: &str) -> (Value, Value) {
    let steps = read(api, target, &format!("{id}/steps/")).await;
    assert_eq!(steps["count"], 1, "{steps}");
    let step = &steps["results"][0];
    (step["error"]["code"].clone(), step["tries"].clone())
}

on_each_database! {
    async fn a_step_whose_error_may_pass_is_tried_again_and_its_tries_are_told(database) {
        let folder = database.path("later");
        let changes = later(&format!("sqlite://{folder}/x.db?mode=rwc"));
        let server = Server::start_with(&database, &changes).await;
        let api = &server.api;
        let target = api.deploy(load(Some(at_once(5)))).await;
        let tries = closed_until(folder, 3);
        let body = json!({"input_data": [{"a": 1}], "include_metrics": true});
        let id = api.accepted(&target, &body).await;
        assert_eq!(api.ended(&target, &id).await["status"], "COMPLETED");
        fail::remove("step-run");
        assert_eq!(tries.load(Ordering::SeqCst), 3);
        assert_eq!(only_step(api, &target, &id).await, (Value::Null, json!(3)));
        let result = api.result(&target, &id).await;
        assert_eq!(result[0]["result"]["output"]["rows_loaded"], 1);
        assert_eq!(result[0]["result"]["metrics"]["load"]["tries"], 3);
        let logs = read(api, &target, &format!("{id}/logs/")).await;
        let lines: Vec<_> = logs["results"].as_array().unwrap().iter().map(|line| line["text"].clone()).collect();
        assert!(lines.contains(&json!("input_data: step load completed after 3 tries")), "{lines:?}");
        let events = follow(api, &target, &id, None).await.rest().await;
        let told: Vec<_> = events.iter().filter_map(|event| event.data.get("tries")).collect();
        assert_eq!(told, [&json!(3)], "at the end of the step alone");
        server.stop().await;
        // What the rows tell is what was told from memory.
        let server = Server::start_with(&database, &changes).await;
        let again = follow(&server.api, &target, &id, None).await.rest().await;
        assert_eq!(again, events);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_step_is_tried_as_often_as_it_says_or_else_as_its_deployment_says(database) {
        let folder = database.path("never");
        let changes = later(&format!("sqlite://{folder}/x.db?mode=rwc"));
        let server = Server::start_with(&database, &changes).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let body = json!({"input_data": [{"a": 1}]});
        let other = json!({"attempts": 4, "delay_seconds": 0, "errors": ["row_invalid"]});
        let settings = json!({"retry": at_once(4)});
        for (name, steps, expected) in [
            ("deployment", load(None), 4),
            ("step", load(Some(at_once(2))), 2),
            ("once", load(Some(at_once(1))), 1),
            ("other", load(Some(other)), 1),
        ] {
            let target = api.deploy_in(ORG, &key, name, steps, settings.clone()).await;
            let tries = closed_until(folder.clone(), usize::MAX);
            let id = api.accepted(&target, &body).await;
            let ended = api.ended(&target, &id).await;
            assert_eq!(ended["error"]["code"], "destination_unavailable", "{name}");
            assert_eq!(tries.load(Ordering::SeqCst), expected, "{name}");
            let told = only_step(api, &target, &id).await;
            assert_eq!(told, (json!("destination_unavailable"), json!(expected)), "{name}");
        }
        // What a repeat cannot cure is not repeated.
        let steps = json!([{"uses": "jq", "with": {"filter": "error(\"no\")"}}]);
        let target = api.deploy_in(ORG, &key, "lasting", steps, settings).await;
        let id = api.accepted(&target, &body).await;
        api.ended(&target, &id).await;
        assert_eq!(only_step(api, &target, &id).await.1, 1);
        fail::remove("step-run");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_step_that_panics_is_tried_again_only_where_that_is_wished(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let listed = json!({"attempts": 3, "delay_seconds": 0, "errors": ["step_crashed"]});
        for (name, retry, code, tries) in [
            ("plain", at_once(3), json!("step_crashed"), 1),
            ("listed", listed, Value::Null, 3),
        ] {
            let settings = json!({"retry": retry});
            let target = api.deploy_in(ORG, &key, name, echo(), settings).await;
            fail::cfg("step-run", "2*panic(killed by a test)").unwrap();
            let id = api.accepted(&target, &json!({"input_data": 1})).await;
            api.ended(&target, &id).await;
            assert_eq!(only_step(api, &target, &id).await, (code, json!(tries)), "{name}");
        }
        fail::remove("step-run");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_try_that_takes_too_long_is_ended_and_the_next_has_its_own_time(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let filter = json!({"filter": "def f: f; f", "timeout_seconds": 60});
        let steps = json!([{"uses": "jq", "with": filter, "timeout_seconds": 1, "retry": at_once(2)}]);
        let target = api.deploy(steps).await;
        let id = api.accepted(&target, &json!({"input_data": 1})).await;
        let ended = api.ended(&target, &id).await;
        assert_eq!((&ended["status"], &ended["error"]["code"]), (&json!("ERROR"), &json!("step_timed_out")));
        assert_eq!(only_step(api, &target, &id).await, (json!("step_timed_out"), json!(2)));
        server.stop().await;
    }
}

on_each_database! {
    async fn a_cancel_ends_the_pause_between_two_tries_at_once(database) {
        let folder = database.path("never");
        let later = later(&format!("sqlite://{folder}/x.db?mode=rwc"));
        let changes = format!("[engine]\ncancel_grace_seconds = 3600\n{later}");
        let server = Server::start_with(&database, &changes).await;
        let api = &server.api;
        // Half of the delay at least, which is more than any test waits.
        let retry = json!({"attempts": 2, "delay_seconds": 3600, "max_delay_seconds": 3600});
        let target = api.deploy(load(Some(retry))).await;
        let tries = closed_until(folder, usize::MAX);
        let id = api.accepted(&target, &json!({"input_data": [{"a": 1}]})).await;
        let tried = async {
            while tries.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, tried).await.expect("it is tried");
        assert_eq!(cancel(api, &target, &id).await.status(), 202);
        assert_eq!(api.ended(&target, &id).await["status"], "STOPPED");
        assert_eq!(tries.load(Ordering::SeqCst), 1);
        assert_eq!(only_step(api, &target, &id).await, (json!("cancelled"), json!(1)));
        fail::remove("step-run");
        server.stop().await;
    }
}

on_each_database! {
    async fn tries_and_times_that_cannot_be_are_refused_where_they_are_written(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let key = &target.platform_key;
        let deployment = managed(&format!("api-deployment/{}/", target.id));
        for (wrong, place) in [
            (json!({"attempts": 0}), "retry.attempts"),
            (json!({"attempts": 21}), "retry.attempts"),
            (json!({"attempts": "3"}), "retry.attempts"),
            (json!({"delay_seconds": -1}), "retry.delay_seconds"),
            (json!({"max_delay_seconds": 3601}), "retry.max_delay_seconds"),
            (json!({"errors": ["destination_unavailable", "No code"]}), "retry.errors[1]"),
            (json!({"tries": 3}), "retry.tries"),
        ] {
            let change = json!({"retry": wrong});
            let answer = call(api, Method::PATCH, &deployment, key, &change).await;
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place], "{wrong}");
            let mut steps = echo();
            steps[0]["retry"] = wrong;
            let write = json!({"name": "w", "type": "TASK", "steps": steps});
            let answer = call(api, Method::POST, &managed("workflow/"), key, &write).await;
            let body = json_of(answer, 400).await;
            assert_eq!(places(&body), [format!("steps[0].{place}")], "{body}");
        }
        for wrong in [json!(0), json!(86_401), json!("1")] {
            let mut steps = echo();
            steps[0]["timeout_seconds"] = wrong;
            let write = json!({"name": "w", "type": "TASK", "steps": steps});
            let answer = call(api, Method::POST, &managed("workflow/"), key, &write).await;
            assert_eq!(places(&json_of(answer, 400).await), ["steps[0].timeout_seconds"]);
        }
        // What is right is shown as it holds.
        let change = json!({"retry": {"attempts": 5}});
        let changed = json_of(call(api, Method::PATCH, &deployment, key, &change).await, 200).await;
        let whole = json!({"attempts": 5, "delay_seconds": 1, "max_delay_seconds": 60, "errors": null});
        assert_eq!(changed["retry"], whole);
        server.stop().await;
    }
}
