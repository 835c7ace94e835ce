//! Receivers are told of ends: signed, once, after the commit, whatever other
//! receivers do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, ORG, Process, Server, json_of, on_each_database};
use crate::webhook_receiver::{
    LOCAL, Receiver, SECRET, TOKEN, Told, connect, delivery, deploy, stands, taken,
};
use crate::wire::{call, cancel, echo, endless, managed, names, places, refusal, running};

const OTHER_SECRET: &str = "whsec_YW5vdGhlciBzaWduaW5nIHNlY3JldCBvZiAzMiBieXQ=";

fn submission() -> Value {
    json!({"input_data": 1, "tags": ["march", "b"]})
}

on_each_database! {
    async fn each_end_is_told_once_with_a_signature_of_each_secret_and_none_of_the_content(database) {
        let server = Server::start_with(&database, LOCAL).await;
        let (api, receiver) = (&server.api, Receiver::start(|_, _| taken()).await);
        let key = api.organisation(ORG).await;
        let fails = json!([{"uses": "jq", "with": {"filter": "error(\"no\")"}}]);
        let mut told = BTreeSet::new();
        for (name, steps, event, status) in [
            ("good", echo(), "execution.completed", "COMPLETED"),
            ("bad", fails, "execution.failed", "ERROR"),
            ("stopped", endless(), "execution.stopped", "STOPPED"),
        ] {
            let target = deploy(api, &key, name, &receiver.url, steps).await;
            let id = api.accepted(&target, &submission()).await;
            if status == "STOPPED" {
                running(api, &target, &id).await;
                assert_eq!(cancel(api, &target, &id).await.status(), 202);
            }
            let ended = api.ended(&target, &id).await;
            assert_eq!(ended["status"], status);
            let heard = receiver.hears(told.len() + 1).await;
            let told_now = heard.last().unwrap();
            let body = told_now.body();
            let error = if status == "ERROR" { ended["error"].clone() } else { Value::Null };
            assert_eq!(body, json!({"type": event, "timestamp": ended["ended_at"], "data": {
                "execution_id": id, "status": status, "org_id": ORG, "api_name": name,
                "deployment_id": target.id, "tags": ["b", "march"], "documents_total": 1,
                "documents_failed": i32::from(status == "ERROR"), "error": error,
                "status_url": format!("/deployment/{}/status/{id}/", target.public_id),
                "result_url": format!("/deployment/{}/result/{id}/", target.public_id),
                "ended_at": ended["ended_at"]}}));
            assert_eq!(told_now.headers["webhook-signature"], told_now.signatures(&[SECRET]));
            assert_eq!(told_now.headers["x-token"], TOKEN);
            assert_eq!(told_now.headers["content-type"], "application/json");
            assert!(told_now.headers["user-agent"].starts_with("Millrace/"));
            told.insert(told_now.id().to_owned());
            let delivered = stands(api, &key, &id, "delivered").await;
            assert_eq!((&delivered["webhook_id"], &delivered["type"]), (&json!(told_now.id()), &json!(event)));
            assert_eq!(delivered["history"].as_array().unwrap().len(), 1);
            assert_eq!(delivered["history"][0]["http_status"], 204);
        }
        assert_eq!((told.len(), receiver.told().len()), (3, 3));

        // Two secrets while one takes the other's place: each signs.
        let list = json_of(api.get(&managed("connection/"), &key).send().await.unwrap(), 200).await;
        let good = list["results"].as_array().unwrap().iter().find(|row| row["name"] == "good").unwrap();
        assert_eq!(good["secrets"], json!(["headers.X-Token", "signing_secrets.0"]));
        let path = managed(&format!("connection/{}/", good["id"].as_str().unwrap()));
        let both = json!({"signing_secrets": [OTHER_SECRET, SECRET]});
        assert_eq!(call(api, Method::PATCH, &path, &key, &both).await.status(), 200);
        let list = json_of(api.get(&managed("api-deployment/"), &key).send().await.unwrap(), 200).await;
        let row = list["results"].as_array().unwrap().iter().find(|row| row["api_name"] == "good").unwrap();
        let again = managed(&format!("webhook-delivery/{}/redeliver/", delivery_of(api, &key, row).await));
        assert_eq!(call(api, Method::POST, &again, &key, &Value::Null).await.status(), 202);
        let last = receiver.hears(4).await.pop().unwrap();
        assert_eq!(last.headers["webhook-signature"], last.signatures(&[OTHER_SECRET, SECRET]));
        server.stop().await;
    }
}

/// The newest delivery of a deployment.
async fn delivery_of(api: &crate::support::Api, key: &str, deployment: &Value) -> String {
    let path = format!("webhook-delivery/?deployment={}", deployment["id"].as_str().unwrap());
    let list = json_of(api.get(&managed(&path), key).send().await.unwrap(), 200).await;
    list["results"][0]["id"].as_str().unwrap().to_owned()
}

on_each_database! {
    async fn only_the_wanted_ends_are_told_and_without_a_webhook_nothing_is_written(database) {
        let server = Server::start_with(&database, LOCAL).await;
        let (api, receiver) = (&server.api, Receiver::start(|_, _| taken()).await);
        let key = api.organisation(ORG).await;
        connect(api, &key, "hook", &receiver.url).await;
        let silent = api.deploy_in(ORG, &key, "silent", echo(), json!({})).await;
        let settings = json!({"webhook": {"connection": "hook", "statuses": ["ERROR", "STOPPED"]}});
        let choosy = api.deploy_in(ORG, &key, "choosy", echo(), settings).await;
        for target in [&silent, &choosy] {
            let id = api.accepted(target, &submission()).await;
            assert_eq!(api.ended(target, &id).await["status"], "COMPLETED");
        }
        let list = json_of(api.get(&managed("webhook-delivery/"), &key).send().await.unwrap(), 200).await;
        assert_eq!(list["count"], 0);
        assert!(receiver.told().is_empty());
        server.stop().await;
    }
}

on_each_database! {
    async fn when_a_receiver_is_told_the_end_is_stored(database) {
        let server = Server::start_with(&database, LOCAL).await;
        // It answers only later, so what is read now was there when it was told.
        let (api, receiver) = (&server.api, Receiver::start(|_, _| None).await);
        let key = api.organisation(ORG).await;
        let target = deploy(api, &key, "demo", &receiver.url, echo()).await;
        let id = api.accepted(&target, &submission()).await;
        receiver.hears(1).await;
        let store = server.engine.store();
        let row = store.execution(target.id.parse().unwrap(), id.parse().unwrap()).await.unwrap();
        assert_eq!(row.status, millrace_entities::enums::Status::Completed);
        let under_way = delivery(api, &key, &id).await;
        assert_eq!((&under_way["state"], &under_way["attempts"]), (&json!("pending"), &json!(1)));
        let attempt = &under_way["history"][0];
        assert_eq!((&attempt["number"], &attempt["duration_ms"]), (&json!(1), &Value::Null));
        server.stop().await;
    }
}

on_each_database! {
    async fn a_slow_receiver_holds_up_neither_executions_nor_other_receivers(database) {
        let settings = format!("{LOCAL}[webhooks]\nmax_per_receiver = 2\nmax_in_flight = 4\ntimeout_seconds = 300");
        let server = Server::start_with(&database, &settings).await;
        let api = &server.api;
        let (slow, good) = (Receiver::start(|_, _| None).await, Receiver::start(|_, _| taken()).await);
        let key = api.organisation(ORG).await;
        let (to_slow, to_good) = (
            deploy(api, &key, "a-slow", &slow.url, echo()).await,
            deploy(api, &key, "good", &good.url, echo()).await,
        );
        let mut ids = Vec::new();
        for target in [&to_slow, &to_good] {
            for _ in 0..20 {
                ids.push((target, api.accepted(target, &submission()).await));
            }
        }
        for (target, id) in &ids {
            assert_eq!(api.ended(target, id).await["status"], "COMPLETED");
        }
        let told: BTreeSet<_> = good.hears(20).await.iter().map(|told| told.execution()).collect();
        assert_eq!(told, ids[20..].iter().map(|(_, id)| id.clone()).collect());
        // Its two places are taken, and no more than those.
        assert_eq!(slow.told().len(), 2);
        let waiting = managed("webhook-delivery/?state=pending&page_size=1000");
        let waiting = json_of(api.get(&waiting, &key).send().await.unwrap(), 200).await;
        let rows = waiting["results"].as_array().unwrap();
        assert_eq!(rows.iter().filter(|row| row["connection"] == "a-slow").count(), 20);
        server.stop().await;
    }
}

on_each_database! {
    async fn what_was_not_told_when_the_server_died_is_told_by_the_next_one(database) {
        let settings = [
            ("MILLRACE_OUTBOUND__ALLOWED_NETWORKS", "[\"127.0.0.0/8\"]"),
            ("MILLRACE_WEBHOOKS__MAX_PER_RECEIVER", "1"),
            ("MILLRACE_WEBHOOKS__TIMEOUT_SECONDS", "10"),
            ("MILLRACE_ENGINE__LEASE_SECONDS", "2"),
        ];
        let server = Process::start(&database, &settings).await;
        // Nobody is answered while the first server lives, so most ends wait.
        let lives = Arc::new(AtomicBool::new(true));
        let held = Arc::clone(&lives);
        let answers = move |_, _: &Told| if held.load(Ordering::SeqCst) { None } else { taken() };
        let receiver = Receiver::start(answers).await;
        let key = server.api.organisation(ORG).await;
        let target = deploy(&server.api, &key, "demo", &receiver.url, echo()).await;
        let mut ids = BTreeSet::new();
        for _ in 0..5 {
            let id = server.api.accepted(&target, &submission()).await;
            assert_eq!(server.api.ended(&target, &id).await["status"], "COMPLETED");
            ids.insert(id);
        }
        let broken_off = receiver.hears(1).await.pop().unwrap();
        server.kill();
        assert!(receiver.told().len() < ids.len(), "some ends were committed and not told");
        lives.store(false, Ordering::SeqCst);
        let server = Process::start(&database, &settings).await;
        for id in &ids {
            stands(&server.api, &key, id, "delivered").await;
        }
        // The one that was broken off came again under its own id, and both attempts are known.
        let told = receiver.told();
        let again = told.iter().rfind(|told| told.execution() == broken_off.execution()).unwrap();
        assert_eq!(again.id(), broken_off.id());
        let delivered = delivery(&server.api, &key, &again.execution()).await;
        let history = delivered["history"].as_array().unwrap();
        let outcomes: Vec<_> = history.iter().map(|attempt| &attempt["http_status"]).collect();
        assert_eq!(outcomes, [&Value::Null, &json!(204)]);
        assert!(server.terminate());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_that_share_a_postgres_tell_each_end_once() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: two_servers_that_share needs Postgres");
        return;
    };
    let (a, b) =
        (Server::start_with(&database, LOCAL).await, Server::start_with(&database, LOCAL).await);
    let receiver = Receiver::start(|_, _| taken()).await;
    let key = a.api.organisation(ORG).await;
    let target = deploy(&a.api, &key, "demo", &receiver.url, echo()).await;
    let path = format!("/deployment/{}/status/{}/", target.public_id, uuid::Uuid::now_v7());
    let known =
        async { while b.api.get(&path, &target.key).send().await.unwrap().status() == 401 {} };
    tokio::time::timeout(crate::support::PATIENCE, known).await.expect("both know the deployment");
    let mut ids = BTreeSet::new();
    for _ in 0..50 {
        ids.insert(a.api.accepted(&target, &submission()).await);
        ids.insert(b.api.accepted(&target, &submission()).await);
    }
    for id in &ids {
        stands(&a.api, &key, id, "delivered").await;
    }
    let told = receiver.told();
    assert_eq!(told.len(), 100);
    assert_eq!(told.iter().map(|told| told.execution()).collect::<BTreeSet<_>>(), ids);
    a.stop().await;
    b.stop().await;
}

on_each_database! {
    async fn a_webhook_needs_a_connection_that_can_sign_and_that_stays(database) {
        let server = Server::start_with(&database, LOCAL).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let target = api.deploy_in(ORG, &key, "demo", echo(), json!({})).await;
        let deployment = managed(&format!("api-deployment/{}/", target.id));
        let patch = async |webhook: Value| {
            call(api, Method::PATCH, &deployment, &key, &json!({"webhook": webhook})).await
        };
        let unsigned = json!({"name": "unsigned", "kind": "http", "base_url": "https://h.example"});
        assert_eq!(call(api, Method::POST, &managed("connection/"), &key, &unsigned).await.status(), 201);
        for (webhook, place) in [
            (json!({"connection": "none"}), "webhook.connection"),
            (json!({"connection": "warehouse"}), "webhook.connection"),
            (json!({"connection": "unsigned"}), "webhook.connection"),
            (json!({"connection": "a b"}), "webhook.connection"),
            (json!({"connection": "unsigned", "statuses": []}), "webhook.statuses"),
            (json!({"connection": "unsigned", "statuses": ["PENDING"]}), "webhook.statuses[0]"),
            (json!({"connection": "unsigned", "url": "x"}), "webhook.url"),
            (json!({"statuses": ["ERROR"]}), "webhook.connection"),
        ] {
            let body = refusal(patch(webhook.clone()).await, 400, "invalid_value").await;
            assert_eq!(places(&body), [place], "{webhook}");
        }
        let hook = connect(api, &key, "hook", "https://h.example").await;
        let shown = json_of(patch(json!({"connection": "hook"})).await, 200).await;
        assert_eq!(shown["webhook"], json!({"connection": "hook", "statuses": ["COMPLETED", "ERROR", "STOPPED"]}));
        let hook = managed(&format!("connection/{hook}/"));
        refusal(call(api, Method::DELETE, &hook, &key, &Value::Null).await, 409, "still_in_use").await;
        let renamed = call(api, Method::PATCH, &hook, &key, &json!({"name": "other"})).await;
        refusal(renamed, 409, "still_in_use").await;
        let shown = json_of(patch(Value::Null).await, 200).await;
        assert_eq!(shown["webhook"], Value::Null);
        assert_eq!(call(api, Method::DELETE, &hook, &key, &Value::Null).await.status(), 204);

        for wrong in [json!(["whsec_x"]), json!([SECRET, SECRET, SECRET]), json!([TOKEN])] {
            let write = json!({"name": "w", "kind": "http", "base_url": "https://h.example", "signing_secrets": wrong});
            let body = refusal(call(api, Method::POST, &managed("connection/"), &key, &write).await, 400, "invalid_value").await;
            assert!(places(&body)[0].starts_with("signing_secrets"), "{body}");
            assert!(!body.to_string().contains(TOKEN) && !body.to_string().contains(SECRET), "{body}");
        }
        for (query, place) in [("state=x", "state"), ("execution=1", "execution"), ("deployment=", "deployment"), ("status=x", "status")] {
            let answer = api.get(&managed(&format!("webhook-delivery/?{query}")), &key).send().await.unwrap();
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place]);
        }
        let list = json_of(api.get(&managed("webhook-delivery/"), &key).send().await.unwrap(), 200).await;
        assert_eq!(names(&list), ["count", "next", "previous", "results"]);
        server.stop().await;
    }
}
