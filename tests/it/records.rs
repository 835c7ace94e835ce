//! An organisation looks back on its executions.

use serde_json::{Value, json};

use crate::event_stream::{documents, follow, two_steps};
use crate::support::{Api, ORG, Server, Target, json_of, on_each_database};

const BASE: &str = "/unstract/acme/api/v2/execution/";

async fn read(api: &Api, key: &str, path: &str) -> Value {
    json_of(api.get(path, key).send().await.unwrap(), 200).await
}

async fn ids(api: &Api, key: &str, query: &str) -> Vec<String> {
    let page = read(api, key, &format!("{BASE}?{query}")).await;
    let results = page["results"].as_array().unwrap();
    assert_eq!(page["count"], results.len(), "{query}");
    results.iter().map(|row| row["execution_id"].as_str().unwrap().to_owned()).collect()
}

async fn submit(api: &Api, target: &Target, tags: &[&str]) -> String {
    let id = api.accepted(target, &json!({"input_data": 1, "tags": tags})).await;
    api.ended(target, &id).await;
    id
}

on_each_database! {
    async fn executions_are_found_by_deployment_status_tag_and_time(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let same = json!([{"uses": "jq", "with": {"filter": "."}}]);
        let fails = json!([{"uses": "jq", "with": {"filter": "error(\"no\")"}}]);
        let one = api.deploy_in(ORG, &key, "one", same.clone(), json!({})).await;
        let two = api.deploy_in(ORG, &key, "two", fails, json!({})).await;
        let first = submit(api, &one, &["march", "red"]).await;
        let second = submit(api, &two, &["march", "march"]).await;
        let third = submit(api, &one, &[]).await;
        let other = api.organisation("other").await;
        let foreign = api.deploy_in("other", &other, "one", same, json!({})).await;
        let foreign_id = submit(api, &foreign, &["march"]).await;

        let all = [third.clone(), second.clone(), first.clone()];
        assert_eq!(ids(api, &key, "").await, all, "newest first, and only one's own");
        assert_eq!(ids(api, &key, &format!("deployment={}", one.id)).await, [&*third, &*first]);
        assert!(ids(api, &key, &format!("deployment={}", foreign.id)).await.is_empty());
        assert_eq!(ids(api, &key, "status=ERROR").await, [&*second]);
        assert!(ids(api, &key, "status=STOPPED").await.is_empty());
        assert_eq!(ids(api, &key, "tag=march").await, [&*second, &*first]);
        assert_eq!(ids(api, &key, "tag=red&status=COMPLETED").await, [&*first]);
        assert!(ids(api, &key, "tag=Red").await.is_empty());
        let row = read(api, &key, &format!("{BASE}{second}/")).await;
        let at = row["created_at"].as_str().unwrap();
        assert_eq!(ids(api, &key, &format!("created_after={at}")).await, [&*third, &*second]);
        assert_eq!(ids(api, &key, &format!("created_before={at}")).await, [&*first]);
        for (far, found) in [("0001-01-01T00:00:00Z", 0), ("9999-12-31T23:59:59Z", 3)] {
            assert_eq!(ids(api, &key, &format!("created_before={far}")).await.len(), found);
            assert_eq!(ids(api, &key, &format!("created_after={far}")).await.len(), 3 - found);
        }

        // Pages keep the filter.
        let page = read(api, &key, &format!("{BASE}?tag=march&page_size=1")).await;
        assert_eq!((&page["count"], &page["previous"]), (&json!(2), &Value::Null));
        assert_eq!(page["results"][0]["execution_id"], *second);
        let next = read(api, &key, page["next"].as_str().unwrap()).await;
        assert_eq!(next["results"][0]["execution_id"], *first);
        assert_eq!(next["next"], Value::Null);

        for (query, place) in [
            ("deployment=x", "deployment"), ("status=completed", "status"), ("tag=", "tag"),
            ("tag=%00", "tag"), ("created_after=yesterday", "created_after"),
            ("created_before=2026-11-23", "created_before"), ("page=0", "page"),
        ] {
            let answer = api.get(&format!("{BASE}?{query}"), &key).send().await.unwrap();
            assert_eq!(json_of(answer, 400).await["errors"][0]["attr"], place, "{query}");
        }
        for part in ["", "steps/", "logs/"] {
            let answer = api.get(&format!("{BASE}{foreign_id}/{part}"), &key).send().await.unwrap();
            assert_eq!(json_of(answer, 404).await["errors"][0]["code"], "not_found");
        }
        let cancel = api.post(&format!("{BASE}{foreign_id}/cancel/"), &key).send().await.unwrap();
        assert_eq!(cancel.status(), 404);
        server.stop().await;
    }
}

on_each_database! {
    async fn an_execution_is_told_whole_with_its_steps_and_its_log(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(two_steps()).await;
        let key = &target.platform_key;
        let mut body = documents(&["a", "bad"]);
        body["tags"] = json!(["march"]);
        let id = api.accepted(&target, &body).await;
        let events = follow(api, &target, &id, None).await.rest().await;

        let row = read(api, key, &format!("{BASE}{id}/")).await;
        assert_eq!(row["status"], "COMPLETED");
        let called = json!({"id": target.id, "api_name": target.api_name, "is_deleted": false});
        assert_eq!(row["deployment"], called);
        assert_eq!((&row["revision"], &row["tags"]), (&json!(1), &json!(["march"])));
        assert!(row["key_id"].is_string());
        assert_eq!(row["documents"], json!({"total": 2, "done": 2, "failed": 1}));
        let states: Vec<_> = row["files"].as_array().unwrap().iter()
            .map(|file| (file["file"].as_str().unwrap(), file["state"].as_str().unwrap()))
            .collect();
        assert_eq!(states, [("a", "completed"), ("bad", "failed")]);
        assert_eq!(row["files"][0]["size"], 1);
        assert_eq!(row["files"][0]["hash"].as_str().unwrap().len(), 64);
        assert!(row["files"][1]["error"]["detail"].is_string());

        let steps = read(api, key, row["links"]["steps"].as_str().unwrap()).await;
        assert_eq!(steps["count"], 4);
        let first = &steps["results"][0];
        assert_eq!((&first["step"], &first["kind"], &first["attempt"]),
            (&json!("name"), &json!("jq"), &json!(1)));
        assert_eq!((&first["state"], &first["output"]), (&json!("completed"), &Value::Null));
        assert!(first["seconds"].as_f64().unwrap() > 0.0);
        let last = &steps["results"][3];
        assert_eq!((&last["file"], &last["step"], &last["state"]),
            (&json!("bad"), &json!("check"), &json!("failed")));
        assert!(last["error"]["code"].is_string());
        let steps = format!("{BASE}{id}/steps/?include_output=true");
        let page = read(api, key, &format!("{steps}&page_size=1")).await;
        assert_eq!(page["results"][0]["output"], "a");
        let next = read(api, key, page["next"].as_str().unwrap()).await;
        assert_eq!(next["results"][0]["output"], "a");
        let refused = api.get(&format!("{steps}&page_size=51"), key).send().await.unwrap();
        assert_eq!(json_of(refused, 400).await["errors"][0]["attr"], "page_size");

        let logs = read(api, key, row["links"]["logs"].as_str().unwrap()).await;
        let lines = logs["results"].as_array().unwrap();
        let told: Vec<_> = lines.iter().map(|line| line["id"].as_str().unwrap()).collect();
        let happened: Vec<_> = events.iter().map(|event| event.id.as_str()).collect();
        assert_eq!(told, happened);
        assert_eq!(lines[0]["text"], "execution accepted");
        let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "error").collect();
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0]["text"].as_str().unwrap().starts_with("bad: step check failed: "));
        let page = read(api, key, &format!("{BASE}{id}/logs/?page=2&page_size=3")).await;
        assert_eq!(page["results"].as_array().unwrap()[..], lines[3..6]);
        server.stop().await;
    }
}

on_each_database! {
    async fn an_organisation_cancels_and_a_deleted_deployment_is_still_looked_back_on(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let endless = json!([{"uses": "jq", "with": {"filter": "def f: f; f", "timeout_seconds": 60}}]);
        let target = api.deploy_in(ORG, &key, "demo", endless, json!({})).await;
        let id = api.accepted(&target, &documents(&["a"])).await;
        let mut stream = follow(api, &target, &id, None).await;
        while stream.next().await.unwrap().brief() != "a jq started" {}
        let live = read(api, &key, &format!("{BASE}{id}/")).await;
        assert_eq!((&live["status"], &live["files"][0]["state"]), (&json!("EXECUTING"), &json!("started")));
        let cancel = format!("{BASE}{id}/cancel/");
        let answer = api.post(&cancel, &key).send().await.unwrap();
        assert_eq!(json_of(answer, 202).await["execution_id"], *id);
        api.ended(&target, &id).await;
        let again = api.post(&cancel, &key).send().await.unwrap();
        assert_eq!(json_of(again, 202).await["status"], "STOPPED", "asking again is the same");

        let path = format!("{}/unstract/acme/api/v2/api-deployment/{}/", api.url, target.id);
        let deleted = api.client.delete(path).bearer_auth(&key).send().await.unwrap();
        assert_eq!(deleted.status(), 204);
        assert_eq!(ids(api, &key, "").await, [&*id]);
        assert_eq!(ids(api, &key, &format!("deployment={}", target.id)).await, [&*id]);
        let row = read(api, &key, &format!("{BASE}{id}/")).await;
        let called = json!({"id": target.id, "api_name": "demo", "is_deleted": true});
        assert_eq!((&row["deployment"], &row["files"][0]["state"]), (&called, &json!("stopped")));
        let logs = read(api, &key, &format!("{BASE}{id}/logs/")).await;
        assert_eq!(logs["results"].as_array().unwrap().last().unwrap()["level"], "warning");
        server.stop().await;
    }
}

on_each_database! {
    async fn tags_are_bounded_and_forms_give_them_too(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(json!([{"uses": "jq", "with": {"filter": "."}}])).await;
        for tags in [json!([""]), json!(["x".repeat(129)]), json!(["a\0"]), json!(vec!["x"; 33])] {
            let answer = api.submit(&target, &json!({"input_data": 1, "tags": tags})).await;
            assert_eq!(json_of(answer, 400).await["errors"][0]["attr"], "tags", "{tags}");
        }
        let long = "ä".repeat(128);
        let form = reqwest::multipart::Form::new()
            .text("input_data", "1").text("tags", format!(" red, {long} ,"));
        let path = format!("/deployment/{}/", target.public_id);
        let answer = api.post(&path, &target.key).multipart(form).send().await.unwrap();
        let id = json_of(answer, 202).await["execution_id"].as_str().unwrap().to_owned();
        for tag in ["red", &long] {
            assert_eq!(ids(api, &target.platform_key, &format!("tag={tag}")).await, [&*id]);
        }
        server.stop().await;
    }
}
