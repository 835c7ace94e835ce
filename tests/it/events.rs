//! The events of an execution, as callers follow them.

use reqwest::StatusCode;
use serde_json::json;

use crate::event_stream::{
    Event, Stream, ask, assert_increasing, briefs, documents, follow, path, two_steps,
};
use crate::support::{Api, Database, PATIENCE, Process, Server, Target, json_of, on_each_database};

/// A step that ends only when it is killed.
const ENDLESS: &str = "def f: f; f";

/// Whoever comes back after any of `events` gets exactly the rest of them.
async fn assert_resumable(api: &Api, target: &Target, id: &str, events: &[Event]) {
    assert_eq!(follow(api, target, id, None).await.rest().await, events);
    for (place, event) in events.iter().enumerate() {
        let answer = ask(api, target, id, Some(&event.id)).await;
        if place + 1 == events.len() {
            assert_eq!(answer.status(), StatusCode::NO_CONTENT, "nothing follows");
        } else {
            let rest = Stream::of(answer).rest().await;
            assert_eq!(rest, &events[place + 1..], "after {}", event.brief());
        }
    }
}

on_each_database! {
    async fn whoever_comes_back_gets_exactly_the_rest_also_after_a_restart(database) {
        let server = Server::start(&database).await;
        let target = server.api.deploy(two_steps()).await;
        let id = server.api.accepted(&target, &documents(&["a", "bad", "c"])).await;
        let events = follow(&server.api, &target, &id, None).await.rest().await;
        assert_increasing(&events);
        let told = briefs(&events);
        assert_eq!(told[..2], ["PENDING", "EXECUTING"]);
        assert_eq!(told.last().unwrap(), "COMPLETED");
        for (file, end) in [("a", "completed"), ("bad", "failed"), ("c", "completed")] {
            let of_file: Vec<_> = events.iter().filter(|event| event.data["file"] == file).collect();
            let told: Vec<_> = of_file.iter().map(|event| event.brief()).collect();
            assert_eq!(told, [
                format!("{file} started"), format!("{file} name started"),
                format!("{file} name completed"), format!("{file} check started"),
                format!("{file} check {end}"), format!("{file} {end}"),
            ]);
            assert!(of_file.iter().all(|event| event.data["execution_id"] == *id));
        }
        let failed = events.iter().find(|event| event.brief() == "bad failed").unwrap();
        assert!(failed.data["error"]["code"].is_string(), "{failed:?}");
        assert_resumable(&server.api, &target, &id, &events).await;
        server.stop().await;

        let server = Server::start(&database).await;
        assert_resumable(&server.api, &target, &id, &events).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn one_document_or_none_and_its_failure_are_told_alike_before_and_after(database) {
        let server = Server::start(&database).await;
        let key = server.api.organisation("acme").await;
        let crash = json!([{"id": "deep", "uses": "jq", "input": "/input_data/x", "with": {"filter": "."}}]);
        let target = server.api.deploy_in("acme", &key, "demo", crash, json!({})).await;
        for (body, end, told) in [
            (json!({"input_data": {"x": 1}}), "COMPLETED", "completed"),
            (json!({"input_data": {"y": 1}}), "ERROR", "failed"),
        ] {
            let id = server.api.accepted(&target, &body).await;
            let events = follow(&server.api, &target, &id, None).await.rest().await;
            let deep = format!("input_data deep {told}");
            let document = format!("input_data {told}");
            assert_eq!(briefs(&events), [
                "PENDING", "EXECUTING", "input_data started", "input_data deep started",
                &deep, &document, end,
            ]);
            assert_resumable(&server.api, &target, &id, &events).await;
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn a_cancel_stops_what_runs_and_all_of_it_is_told(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let steps = json!([
            {"id": "quick", "uses": "jq", "with": {"filter": "."}},
            {"id": "endless", "uses": "jq", "with": {"filter": ENDLESS, "timeout_seconds": 60}},
        ]);
        let target = api.deploy(steps).await;
        let id = api.accepted(&target, &json!({"input_data": 1})).await;
        let mut stream = follow(api, &target, &id, None).await;
        let mut events = stream.until("input_data endless started").await;
        assert_eq!(briefs(&events), [
            "PENDING", "EXECUTING", "input_data started", "input_data quick started",
            "input_data quick completed", "input_data endless started",
        ]);
        // While it runs, too.
        let mut again = follow(api, &target, &id, Some(&events[2].id)).await;
        assert_eq!(again.until("input_data endless started").await, &events[3..]);
        let cancel = format!("/deployment/{}/cancel/{id}/", target.public_id);
        assert_eq!(api.post(&cancel, &target.key).send().await.unwrap().status(), 202);
        let rest = stream.rest().await;
        assert_eq!(briefs(&rest), ["input_data endless stopped", "input_data stopped", "STOPPED"]);
        assert_eq!(again.rest().await, rest);
        events.extend(rest);
        assert_increasing(&events);
        assert_resumable(api, &target, &id, &events).await;

        server.stop().await;
    }
}

on_each_database! {
    async fn what_is_cancelled_before_its_turn_runs_no_step(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation("acme").await;
        let endless = json!([{"uses": "jq", "with": {"filter": ENDLESS, "timeout_seconds": 60}}]);
        let target =
            api.deploy_in("acme", &key, "demo", endless, json!({"max_concurrency": 1})).await;
        let first = api.accepted(&target, &json!({"input_data": 1})).await;
        let second = api.accepted(&target, &json!({"input_data": 1})).await;
        let stream = follow(api, &target, &second, None).await;
        for id in [&second, &first] {
            let cancel = format!("/deployment/{}/cancel/{id}/", target.public_id);
            assert_eq!(api.post(&cancel, &target.key).send().await.unwrap().status(), 202);
        }
        let events = stream.rest().await;
        assert_eq!(briefs(&events), ["PENDING", "STOPPED"]);
        assert_resumable(api, &target, &second, &events).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn a_slow_reader_gets_everything_late(database) {
        let server = Server::start(&database).await;
        let key = server.api.organisation("acme").await;
        let settings = json!({"max_files": 100});
        let target = server.api.deploy_in("acme", &key, "demo", two_steps(), settings).await;
        let names: Vec<_> = (0..100).map(|n| format!("{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let id = server.api.accepted(&target, &documents(&names)).await;
        let mut slow = follow(&server.api, &target, &id, None).await;
        let first = slow.next().await.unwrap();
        server.api.ended(&target, &id).await;
        let mut events = vec![first];
        events.extend(slow.rest().await);
        assert_eq!(events.len(), 3 + 100 * 6);
        assert_increasing(&events);
        let again = follow(&server.api, &target, &id, None).await.rest().await;
        assert_eq!(again, events);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_server_that_ends_ends_its_streams_and_the_next_one_goes_on(database) {
        let changes = "[engine]\ndrain_grace_seconds = 0";
        let server = Server::start_with(&database, changes).await;
        let steps = json!([
            {"id": "quick", "uses": "jq", "with": {"filter": "."}},
            {"id": "endless", "uses": "jq", "with": {"filter": ENDLESS, "timeout_seconds": 60}},
        ]);
        let target = server.api.deploy(steps).await;
        let id = server.api.accepted(&target, &json!({"input_data": 1})).await;
        let mut stream = follow(&server.api, &target, &id, None).await;
        let seen = stream.until("input_data endless started").await;
        let (rest, ()) = tokio::join!(stream.rest(), server.stop());
        assert_eq!(rest, [], "nothing more is told");

        let server = Server::start_with(&database, changes).await;
        let last = seen.last().unwrap();
        let mut stream = follow(&server.api, &target, &id, Some(&last.id)).await;
        let again = stream.next().await.unwrap();
        assert_eq!(again.brief(), "input_data endless started", "the step is begun anew");
        assert!(again.place() > last.place());
        assert_eq!((&last.data["attempt"], &again.data["attempt"]), (&json!(1), &json!(2)));
        let cancel = format!("/deployment/{}/cancel/{id}/", target.public_id);
        server.api.post(&cancel, &target.key).send().await.unwrap();
        let told = briefs(&stream.rest().await);
        assert_eq!(told, ["input_data endless stopped", "input_data stopped", "STOPPED"]);
        // The beginning that came to nothing is told no more; the rest is.
        let whole = follow(&server.api, &target, &id, None).await.rest().await;
        assert_eq!(whole[..5], seen[..5]);
        assert_eq!(whole[5], again);
        server.stop().await;
    }
}

on_each_database! {
    async fn across_kills_nothing_is_missed_and_nothing_comes_twice(database) {
        let lease = [("MILLRACE_ENGINE__LEASE_SECONDS", "2")];
        let mut server = Process::start(&database, &lease).await;
        let key = server.api.organisation("acme").await;
        let target =
            server.api.deploy_in("acme", &key, "demo", two_steps(), json!({"max_files": 100})).await;
        let names: Vec<_> = (0..100).map(|n| format!("{n}")).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let id = server.api.accepted(&target, &documents(&names)).await;
        let mut seen: Vec<Event> = Vec::new();
        for stop_at in [50, 250] {
            let after = seen.last().map(|event| event.id.clone());
            let mut stream = follow(&server.api, &target, &id, after.as_deref()).await;
            while seen.len() < stop_at {
                seen.push(stream.next().await.unwrap());
            }
            server.kill();
            server = Process::start(&database, &lease).await;
        }
        while seen.last().is_none_or(|event| event.brief() != "COMPLETED") {
            let after = seen.last().map(|event| event.id.clone());
            seen.extend(follow(&server.api, &target, &id, after.as_deref()).await.rest().await);
        }
        assert_increasing(&seen);
        let whole = follow(&server.api, &target, &id, None).await.rest().await;
        assert_increasing(&whole);
        assert_eq!(whole.len(), 3 + 100 * 6);
        let missed: Vec<_> = whole.iter().filter(|event| !seen.contains(event)).collect();
        assert!(missed.is_empty(), "{missed:?}");
        let undone = seen.iter().filter(|event| !whole.contains(event));
        let ends: Vec<_> = undone.filter(|event| event.data["state"] != "started").collect();
        assert!(ends.iter().all(|event| event.kind == "status"), "{ends:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_run_it_tells_the_same_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: a_node_that_does_not_run_it needs Postgres");
        return;
    };
    let server = Server::start(&database).await;
    let target = server.api.deploy(two_steps()).await;
    let other = Server::start(&database).await;
    let id = server.api.accepted(&target, &documents(&["a", "bad", "c"])).await;
    let there = follow(&other.api, &target, &id, None).await;
    let here = follow(&server.api, &target, &id, None).await.rest().await;
    assert_eq!(there.rest().await, here);
    assert_resumable(&other.api, &target, &id, &here).await;
    server.stop().await;
    other.stop().await;
}

on_each_database! {
    async fn a_revoked_key_ends_its_streams_and_another_key_sees_nothing_at_all(database) {
        let server = Server::start_with(&database, "[engine]\ndrain_grace_seconds = 0").await;
        let api = &server.api;
        let key = api.organisation("acme").await;
        let endless = json!([{"uses": "jq", "with": {"filter": ENDLESS, "timeout_seconds": 60}}]);
        let target = api.deploy_in("acme", &key, "demo", endless.clone(), json!({})).await;
        let other = api.deploy_in("acme", &key, "other", endless, json!({})).await;
        let id = api.accepted(&target, &json!({"input_data": 1})).await;

        let shown = async |id: &str| {
            let request = api.get(&path(&other, id), &other.key).header("X-Request-Id", "one");
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 404);
            answer.bytes().await.unwrap()
        };
        assert_eq!(shown(&id).await, shown("01990000-0000-7000-8000-000000000000").await);

        let mut stream = follow(api, &target, &id, None).await;
        stream.until("input_data jq started").await;
        let keys = format!("/unstract/acme/api/v2/api-deployment/{}/key/", target.id);
        let listed = json_of(api.get(&keys, &key).send().await.unwrap(), 200).await;
        let revoked = format!("{}{keys}{}/", api.url, listed["results"][0]["id"].as_str().unwrap());
        let answer = api.client.delete(revoked).bearer_auth(&key).send().await.unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(stream.rest().await, []);
        assert_eq!(ask(api, &target, &id, None).await.status(), 401);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_counted_and_their_place_is_given_back() {
    let database = Database::sqlite();
    let server = Server::start_with(
        &database,
        "[server]\nmax_event_streams = 1\n[engine]\ndrain_grace_seconds = 0",
    )
    .await;
    let api = &server.api;
    let endless = json!([{"uses": "jq", "with": {"filter": ENDLESS, "timeout_seconds": 60}}]);
    let target = api.deploy(endless).await;
    let id = api.accepted(&target, &json!({"input_data": 1})).await;
    let mut first = follow(api, &target, &id, None).await;
    first.next().await.unwrap();
    let refused = ask(api, &target, &id, None).await;
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(json_of(refused, 503).await["errors"][0]["code"], "server_busy");
    drop(first);
    let free = async { while ask(api, &target, &id, None).await.status() == 503 {} };
    tokio::time::timeout(PATIENCE, free).await.expect("the place is given back");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_accepts_and_where_it_goes_on_is_checked() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(json!([{"uses": "jq", "with": {"filter": "."}}])).await;
    let id = api.accepted(&target, &json!({"input_data": 1})).await;
    api.ended(&target, &id).await;
    let place = path(&target, &id);
    for accept in ["text/event-stream", "text/*", "*/*"] {
        let answer = api.get(&place, &target.key).header("Accept", accept).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{accept}");
    }
    let status = place.replace("/events/", "/status/");
    for (path, accept) in [(&place, "application/json"), (&status, "text/event-stream")] {
        let answer = api.get(path, &target.key).header("Accept", accept).send().await.unwrap();
        assert_eq!(answer.status(), 406, "{path} {accept}");
    }
    for wrong in ["", "x", "1", "-", "1-", "1-2-3", "+1-2", "1-99999999999999999999"] {
        let answer = ask(api, &target, &id, Some(wrong)).await;
        let body = json_of(answer, 400).await;
        assert_eq!(body["errors"][0]["attr"], "Last-Event-ID", "{wrong}");
        let query = format!("{place}?last_event_id={}", wrong.replace('+', "%2B"));
        let body = json_of(api.get(&query, &target.key).send().await.unwrap(), 400).await;
        assert_eq!(body["errors"][0]["attr"], "last_event_id", "{wrong}");
    }
    let events = follow(api, &target, &id, None).await.rest().await;
    let query = format!("{place}?last_event_id={}", events[2].id);
    let response = api.get(&query, &target.key).send().await.unwrap();
    assert_eq!(Stream::of(response).rest().await, &events[3..]);
    server.stop().await;
}
