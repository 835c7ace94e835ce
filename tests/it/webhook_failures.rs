//! Receivers that fail: the schedule, the record of every attempt, and where
//! webhooks must not lead.

use chrono::{TimeDelta, Utc};
use millrace_entities::{execution, webhook_attempt, webhook_delivery};
use reqwest::Method;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Api, ORG, PATIENCE, Process, Server, Target, json_of, on_each_database};
use crate::webhook_receiver::{
    LOCAL, Receiver, SECRET, TOKEN, Told, answer, connect, delivery, deploy, stands, taken,
};
use crate::wire::{call, echo, managed, refusal};

/// Two retries, at once.
fn hasty() -> String {
    format!("{LOCAL}[webhooks]\nretry_seconds = [0, 0]\ntimeout_seconds = 1")
}

async fn run(api: &Api, target: &Target) -> String {
    let id = api.accepted(target, &json!({"input_data": 1})).await;
    assert_eq!(api.ended(target, &id).await["status"], "COMPLETED");
    id
}

/// Number, status, error and answer of each attempt.
fn history(delivery: &Value) -> Vec<(u64, Value, Value, Value)> {
    let attempts = delivery["history"].as_array().unwrap().iter();
    let row = |attempt: &Value| {
        assert!(attempt["duration_ms"].is_i64() && attempt["started_at"].is_string(), "{attempt}");
        let field = |name: &str| attempt[name].clone();
        (attempt["number"].as_u64().unwrap(), field("http_status"), field("error"), field("answer"))
    };
    attempts.map(row).collect()
}

async fn redeliver(api: &Api, key: &str, delivery: &Value) {
    let path = format!("webhook-delivery/{}/redeliver/", delivery["id"].as_str().unwrap());
    let body =
        json_of(call(api, Method::POST, &managed(&path), key, &Value::Null).await, 202).await;
    assert_eq!((&body["webhook_id"], &body["ended_at"]), (&delivery["webhook_id"], &Value::Null));
}

on_each_database! {
    async fn a_receiver_that_fails_is_tried_by_the_schedule_then_given_up_then_tried_by_hand(database) {
        let server = Server::start_with(&database, &hasty()).await;
        let api = &server.api;
        let receiver = Receiver::start(|before, _| match before {
            0 => answer("500 Internal Server Error", "", "down"),
            1 => answer("302 Found", "location: /elsewhere\r\n", ""),
            2 => answer("429 Too Many Requests", "", "\u{1b}[31m"),
            3 => answer("503 Service Unavailable", "", ""),
            _ => taken(),
        }).await;
        let key = api.organisation(ORG).await;
        let target = deploy(api, &key, "demo", &receiver.url, echo()).await;
        let id = run(api, &target).await;
        let failed = stands(api, &key, &id, "failed").await;
        assert_eq!(history(&failed), [
            (1, json!(500), Value::Null, json!("down")),
            (2, json!(302), Value::Null, json!("")),
            (3, json!(429), Value::Null, json!("\\u{1b}[31m")),
        ]);
        assert!(failed["ended_at"].is_string() && failed["next_attempt_at"].is_null(), "{failed}");

        // By hand, from the beginning of the schedule, under the same id.
        redeliver(api, &key, &failed).await;
        let delivered = stands(api, &key, &id, "delivered").await;
        let statuses: Vec<_> = history(&delivered).into_iter().map(|attempt| (attempt.0, attempt.1)).collect();
        assert_eq!(statuses[3..], [(4, json!(503)), (5, json!(204))]);
        // What was delivered may be asked for once more as well.
        redeliver(api, &key, &delivered).await;
        let told = receiver.hears(6).await;
        let body = told[0].body();
        assert!(told.iter().all(|one| one.id() == failed["webhook_id"] && one.body() == body));
        for one in &told {
            assert_eq!(one.headers["webhook-signature"], one.signatures(&[SECRET]));
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn a_pause_lasts_as_the_schedule_or_the_receiver_says(database) {
        let settings = format!("{LOCAL}[webhooks]\nretry_seconds = [1000]\nretry_after_seconds = 5000");
        let server = Server::start_with(&database, &settings).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        for (name, retry_after, least, most) in [
            ("none", "", 1000, 1100),
            ("longer", "retry-after: 3000\r\n", 3000, 3000),
            ("shorter", "retry-after: 1\r\n", 1000, 1100),
            ("endless", "retry-after: 99999999999\r\n", 5000, 5000),
        ] {
            let answers = move |_, _: &Told| answer("503 Service Unavailable", retry_after, "");
            let receiver = Receiver::start(answers).await;
            let target = deploy(api, &key, name, &receiver.url, echo()).await;
            let id = run(api, &target).await;
            receiver.hears(1).await;
            let waiting = async {
                loop {
                    let delivery = delivery(api, &key, &id).await;
                    if !delivery["history"][0]["http_status"].is_null() {
                        return delivery;
                    }
                }
            };
            let waiting = tokio::time::timeout(PATIENCE, waiting).await.unwrap();
            assert_eq!(waiting["state"], "pending");
            let next: chrono::DateTime<Utc> = waiting["next_attempt_at"].as_str().unwrap().parse().unwrap();
            // From some time between the attempt and now.
            let from = waiting["history"][0]["started_at"].as_str().unwrap().parse::<chrono::DateTime<Utc>>().unwrap();
            let pause = (next - from).num_seconds();
            let passed = (Utc::now() - from).num_seconds() + 1;
            assert!((least..=most + passed).contains(&pause), "{name}: {pause}");
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn who_is_gone_is_told_no_more_and_who_cannot_be_reached_is_recorded_with_the_reason(database) {
        let server = Server::start_with(&database, &hasty()).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let gone = Receiver::start(|_, _| answer("410 Gone", "", "no more")).await;
        let target = deploy(api, &key, "gone", &gone.url, echo()).await;
        let failed = stands(api, &key, &run(api, &target).await, "failed").await;
        assert_eq!(history(&failed), [(1, json!(410), Value::Null, json!("no more"))]);

        let silent = Receiver::start(|_, _| None).await;
        // A port that nobody listens on any more.
        let away = Receiver::start(|_, _| None).await.url.clone();
        for (name, url, code) in [
            ("silent", silent.url.clone(), "timeout"),
            ("away", away, "connect_failed"),
            ("tls", silent.url.replace("http:", "https:"), "timeout"),
            ("nowhere", "http://nowhere.invalid/hook".into(), "connect_failed"),
        ] {
            let target = deploy(api, &key, name, &url, echo()).await;
            let failed = stands(api, &key, &run(api, &target).await, "failed").await;
            let reasons: Vec<_> = history(&failed).into_iter().map(|attempt| attempt.2).collect();
            assert_eq!(reasons, [json!(code), json!(code), json!(code)], "{name}");
        }

        // What the connection lost is found when it is tried.
        let receiver = Receiver::start(|_, _| taken()).await;
        let connection = connect(api, &key, "hook", &receiver.url).await;
        let settings = json!({"webhook": {"connection": "hook"}});
        let target = api.deploy_in(ORG, &key, "hook", echo(), settings).await;
        let path = managed(&format!("connection/{connection}/"));
        let unsigned = json!({"signing_secrets": null});
        assert_eq!(call(api, Method::PATCH, &path, &key, &unsigned).await.status(), 200);
        let failed = stands(api, &key, &run(api, &target).await, "failed").await;
        assert_eq!(history(&failed)[0].2, "connection_without_secret");
        let deployment = managed(&format!("api-deployment/{}/", target.id));
        assert_eq!(call(api, Method::DELETE, &deployment, &key, &Value::Null).await.status(), 204);
        assert_eq!(call(api, Method::DELETE, &path, &key, &Value::Null).await.status(), 204);
        redeliver(api, &key, &failed).await;
        let failed = stands(api, &key, failed["execution_id"].as_str().unwrap(), "failed").await;
        assert_eq!(history(&failed)[3].2, "connection_unknown");
        assert!(receiver.told().is_empty());
        server.stop().await;
    }
}

on_each_database! {
    async fn a_deleted_deployment_still_tells_and_its_links_are_gone(database) {
        let settings = format!("{LOCAL}[webhooks]\nretry_seconds = [1]");
        let server = Server::start_with(&database, &settings).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let gate = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let opened = std::sync::Arc::clone(&gate);
        let receiver = Receiver::start(move |_, _| {
            let open = opened.load(std::sync::atomic::Ordering::SeqCst);
            if open { taken() } else { answer("500 Internal Server Error", "retry-after: 2\r\n", "") }
        }).await;
        let target = deploy(api, &key, "demo", &receiver.url, echo()).await;
        let id = run(api, &target).await;
        receiver.hears(1).await;
        let path = managed(&format!("api-deployment/{}/", target.id));
        assert_eq!(call(api, Method::DELETE, &path, &key, &Value::Null).await.status(), 204);
        gate.store(true, std::sync::atomic::Ordering::SeqCst);
        let delivered = stands(api, &key, &id, "delivered").await;
        assert_eq!(delivered["deployment_id"], target.id);
        let body = receiver.told().pop().unwrap().body();
        assert_eq!((&body["data"]["api_name"], &body["data"]["status_url"]), (&json!("demo"), &Value::Null));
        server.stop().await;
    }
}

on_each_database! {
    async fn what_an_organisation_stores_leads_to_public_addresses_only(database) {
        let receiver = Receiver::start(|_, _| taken()).await;
        let (port, path) = receiver.url.rsplit_once(':').unwrap().1.split_once('/').unwrap();
        let declared = format!(
            "[webhooks]\nretry_seconds = []\n[[connections]]\norg_id = \"{ORG}\"\nname = \"declared\"\n\
             kind = \"http\"\nbase_url = \"{}\"\nsigning_secrets = [\"{SECRET}\"]", receiver.url);
        let server = Server::start_with(&database, &declared).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        for (name, host) in [
            ("literal", "127.0.0.1"), ("number", "2130706433"), ("mapped", "[::ffff:127.0.0.1]"),
            ("name", "localhost"), ("cloud", "169.254.169.254"),
        ] {
            let url = format!("http://{host}:{port}/{path}");
            let target = deploy(api, &key, name, &url, echo()).await;
            let failed = stands(api, &key, &run(api, &target).await, "failed").await;
            assert_eq!(history(&failed), [(1, Value::Null, json!("blocked_destination"), Value::Null)], "{name}");
        }
        assert!(receiver.told().is_empty());
        // Where the operator's configuration leads is the operator's to say.
        let settings = json!({"webhook": {"connection": "declared"}});
        let target = api.deploy_in(ORG, &key, "declared", echo(), settings).await;
        stands(api, &key, &run(api, &target).await, "delivered").await;
        assert_eq!(receiver.told().len(), 1);
        server.stop().await;
    }
}

on_each_database! {
    async fn no_secret_comes_back_by_an_answer_or_stands_in_a_log(database) {
        let log = database.folder.path().join("log");
        // Read where the server starts.
        std::fs::write(database.path("config.toml"), LOCAL).unwrap();
        let server = Process::start_logging(&database, "debug", &log).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        // It sends back all that it was sent, secret included.
        let receiver = Receiver::start(|_, told| {
            answer("200 OK", "", &format!("{:?} {SECRET}", told.headers))
        }).await;
        let target = deploy(api, &key, "demo", &receiver.url, echo()).await;
        let delivered = stands(api, &key, &run(api, &target).await, "delivered").await;
        let kept = delivered["history"][0]["answer"].as_str().unwrap();
        assert!(kept.contains(&"*".repeat(TOKEN.len())), "{kept}");
        let entries = json_of(api.get(&managed("audit/"), &key).send().await.unwrap(), 200).await;
        server.terminate();
        let log = std::fs::read_to_string(&log).unwrap();
        assert!(log.contains("webhook attempted"), "{log}");
        for text in [&delivered.to_string(), &entries.to_string(), &log] {
            assert!(!text.contains(TOKEN) && !text.contains(&SECRET[6..]), "{text}");
        }
    }
}

on_each_database! {
    async fn deliveries_go_with_their_execution_and_else_after_their_time(database) {
        let server = Server::start_with(&database, LOCAL).await;
        let (api, receiver) = (&server.api, Receiver::start(|_, _| taken()).await);
        let key = api.organisation(ORG).await;
        let target = deploy(api, &key, "demo", &receiver.url, echo()).await;
        let (old, kept, expired) =
            (run(api, &target).await, run(api, &target).await, run(api, &target).await);
        for id in [&old, &kept, &expired] {
            stands(api, &key, id, "delivered").await;
        }
        let store = server.engine.store();
        let (old_id, expired_id): (Uuid, Uuid) = (old.parse().unwrap(), expired.parse().unwrap());
        let long_ago = Utc::now() - TimeDelta::days(31);
        let aged = store.write(move |tx| Box::pin(async move {
            use webhook_delivery::Column;
            let row = webhook_delivery::Entity::find().filter(Column::ExecutionId.eq(old_id)).one(tx).await?.unwrap();
            let early = Uuid::from_u128(1);
            webhook_delivery::Entity::update_many()
                .col_expr(Column::Id, Expr::value(early))
                .col_expr(Column::EndedAt, Expr::value(long_ago))
                .filter(Column::Id.eq(row.id)).exec(tx).await?;
            webhook_attempt::Entity::update_many()
                .col_expr(webhook_attempt::Column::DeliveryId, Expr::value(early))
                .filter(webhook_attempt::Column::DeliveryId.eq(row.id)).exec(tx).await?;
            execution::Entity::update_many()
                .col_expr(execution::Column::ExpiresAt, Expr::value(long_ago))
                .filter(execution::Column::Id.eq(expired_id)).exec(tx).await?;
            Ok(())
        }));
        aged.await.unwrap();
        let swept = server.engine.sweep_once().await.unwrap();
        assert_eq!((swept.deliveries, swept.expired, swept.tombstones), (1, 1, 1));
        let list = json_of(api.get(&managed("webhook-delivery/"), &key).send().await.unwrap(), 200).await;
        let left: Vec<_> = list["results"].as_array().unwrap().iter().map(|row| &row["execution_id"]).collect();
        assert_eq!(left, [&json!(kept)]);
        let attempts = store.read(|db| async move { Ok(webhook_attempt::Entity::find().count(&db).await?) });
        assert_eq!(attempts.await.unwrap(), 1);
        let path = managed(&format!("webhook-delivery/{}/redeliver/", Uuid::from_u128(1)));
        refusal(call(api, Method::POST, &path, &key, &Value::Null).await, 404, "not_found").await;
        server.stop().await;
    }
}
