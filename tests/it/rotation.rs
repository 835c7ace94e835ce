//! Keys of a deployment change, give way to new ones, and are seen in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use millrace::ids::Key;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, PATIENCE, Server, Target, json_of, on_each_database};
use crate::wire::{call, echo, header, managed, places, refusal};

/// Path of a deployment's keys.
fn keys_of(target: &Target) -> String {
    managed(&format!("api-deployment/{}/key/", target.id))
}

/// Path of the first key of a deployment.
async fn first_key(api: &Api, target: &Target) -> String {
    let keys = keys_of(target);
    let list = json_of(api.get(&keys, &target.platform_key).send().await.unwrap(), 200).await;
    format!("{keys}{}/", list["results"][0]["id"].as_str().unwrap())
}

/// Status of a submission with a key.
async fn submits(api: &Api, target: &Target, key: &str) -> u16 {
    let bearer = Target { key: key.into(), ..target.clone() };
    api.submit(&bearer, &json!({"input_data": 1})).await.status().as_u16()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// Whether a key opens its deployment at a time.
fn opens_at(server: &Server, key: &str, now: DateTime<Utc>) -> bool {
    server.engine.context().directory.caller(&Key::parse(key).unwrap().hash(), now).is_some()
}

on_each_database! {
    async fn a_key_can_be_changed_and_switched_off_and_on_until_it_is_revoked(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let (path, platform) = (first_key(api, &target).await, &target.platform_key);
        let change = async |body: Value| call(api, Method::PATCH, &path, platform, &body).await;

        let answer = change(json!({"description": "d", "is_active": false})).await;
        assert_eq!(header(&answer, "etag"), "\"2\"");
        let body = json_of(answer, 200).await;
        assert_eq!((&body["description"], &body["is_active"]), (&json!("d"), &json!(false)));
        assert_eq!(body["revoked_at"], Value::Null);
        assert_eq!(submits(api, &target, &target.key).await, 401);
        assert_eq!(change(json!({"is_active": null})).await.status(), 200);
        assert_eq!(submits(api, &target, &target.key).await, 202);

        // A key that expires can be given more time, and keeps a time that is past.
        let end = Utc::now() + TimeDelta::hours(1);
        let body = json_of(change(json!({"expires_at": end})).await, 200).await;
        let end = time(&body["expires_at"]);
        assert!(opens_at(&server, &target.key, end - TimeDelta::microseconds(1)));
        assert!(!opens_at(&server, &target.key, end), "it opens nothing from its end on");
        for wrong in [json!("2020-01-01T00:00:00Z"), json!("+12000-01-01T00:00:00Z"), json!("soon"), json!(1)] {
            let answer = change(json!({"expires_at": wrong})).await;
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), ["expires_at"]);
        }
        let answer = call(api, Method::PUT, &path, platform, &json!({})).await;
        let body = json_of(answer, 200).await;
        assert_eq!((&body["description"], &body["expires_at"]), (&json!(""), &Value::Null));

        let request = api.client.patch(format!("{}{path}", api.url)).bearer_auth(platform);
        let stale = request.header("if-match", "\"1\"").json(&json!({})).send().await.unwrap();
        refusal(stale, 409, "changed").await;

        for _ in 0..2 {
            assert_eq!(call(api, Method::DELETE, &path, platform, &Value::Null).await.status(), 204);
        }
        refusal(change(json!({"is_active": true})).await, 409, "key_closed").await;
        refusal(call(api, Method::PUT, &path, platform, &json!({})).await, 409, "key_closed").await;
        let rotate = format!("{path}rotate/");
        refusal(call(api, Method::POST, &rotate, platform, &json!({})).await, 409, "key_closed").await;
        let body = json_of(api.get(&path, platform).send().await.unwrap(), 200).await;
        assert_eq!(body["is_active"], false);
        assert!(time(&body["revoked_at"]) <= Utc::now());
        assert_eq!(submits(api, &target, &target.key).await, 401);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_rotated_key_opens_beside_the_new_one_until_the_overlap_is_over(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let (path, platform) = (first_key(api, &target).await, &target.platform_key);
        let rotate = async |path: &str, body: Value| {
            call(api, Method::POST, &format!("{path}rotate/"), platform, &body).await
        };
        let before = Utc::now();
        let rotated = json_of(rotate(&path, json!({"overlap_seconds": 60, "description": "new"})).await, 201).await;
        let second = rotated["api_key"].as_str().unwrap();
        let (old, end) = (&rotated["replaces"], time(&rotated["replaces"]["expires_at"]));
        assert!(path.contains(old["id"].as_str().unwrap()) && old["is_active"] == true);
        assert_eq!((&rotated["description"], &rotated["expires_at"]), (&json!("new"), &Value::Null));
        assert!(end >= before + TimeDelta::seconds(60) && end <= Utc::now() + TimeDelta::seconds(60));
        assert!(!old.to_string().contains(&target.key[9..40]), "the old key is not shown again");
        for key in [&target.key, second] {
            assert_eq!(submits(api, &target, key).await, 202);
        }
        assert!(opens_at(&server, &target.key, end - TimeDelta::microseconds(1)));
        assert!(!opens_at(&server, &target.key, end) && opens_at(&server, second, end));

        // Never later than its own end, and by default an hour later.
        let again = json_of(rotate(&path, json!({"overlap_seconds": 604_800})).await, 201).await;
        assert_eq!(time(&again["replaces"]["expires_at"]), end);
        let second_path = format!("{}{}/", keys_of(&target), rotated["id"].as_str().unwrap());
        let third = json_of(rotate(&second_path, json!({"expires_at": end})).await, 201).await;
        let hour = time(&third["replaces"]["expires_at"]) - Utc::now();
        assert!(hour > TimeDelta::minutes(59) && hour <= TimeDelta::hours(1));
        assert_eq!((time(&third["expires_at"]), &third["description"]), (end, &json!("new")));

        // Without an overlap the old key is closed when the answer is there.
        let third_path = format!("{}{}/", keys_of(&target), third["id"].as_str().unwrap());
        let fourth = json_of(rotate(&third_path, json!({"overlap_seconds": 0})).await, 201).await;
        assert_eq!(submits(api, &target, third["api_key"].as_str().unwrap()).await, 401);
        assert_eq!(submits(api, &target, fourth["api_key"].as_str().unwrap()).await, 202);
        refusal(rotate(&third_path, json!({})).await, 409, "key_closed").await;

        for (body, place) in [
            (json!({"overlap_seconds": 604_801}), "overlap_seconds"),
            (json!({"overlap_seconds": -1}), "overlap_seconds"),
            (json!({"expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
            (json!({"is_active": true}), "is_active"),
        ] {
            assert_eq!(places(&refusal(rotate(&path, body).await, 400, "invalid_value").await), [place]);
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn no_request_that_begins_after_a_revocation_was_answered_is_let_in(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let path = first_key(api, &target).await;
        let (revoked, used) = (Arc::new(AtomicBool::new(false)), Arc::new(tokio::sync::Semaphore::new(0)));
        let callers: Vec<_> = (0..8).map(|_| {
            let (api, target) = (api.clone(), target.clone());
            let (revoked, used) = (Arc::clone(&revoked), Arc::clone(&used));
            tokio::spawn(async move {
                let (mut before, mut after) = (Vec::new(), Vec::new());
                while after.len() < 20 {
                    let late = revoked.load(Ordering::SeqCst);
                    let status = submits(&api, &target, &target.key).await;
                    if late { after.push(status) } else { before.push(status) }
                    used.add_permits(1);
                }
                (before, after)
            })
        }).collect();
        used.acquire_many(40).await.unwrap().forget();
        let answer = call(api, Method::DELETE, &path, &target.platform_key, &Value::Null).await;
        let status = answer.status();
        assert_eq!(status, 204, "{}", answer.text().await.unwrap());
        revoked.store(true, Ordering::SeqCst);
        let mut accepted = 0;
        for caller in callers {
            let (before, after) = tokio::time::timeout(PATIENCE, caller).await.unwrap().unwrap();
            accepted += before.iter().filter(|status| **status == 202).count();
            assert!(after.iter().all(|status| *status == 401), "{after:?}");
        }
        assert!(accepted > 0, "there was load");
        server.stop().await;
    }
}

on_each_database! {
    async fn the_last_use_of_a_key_is_seen_at_once_and_kept(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let path = first_key(api, &target).await;
        let platform = managed("platform-key/");
        let shown = async |api: &Api, path: &str| {
            json_of(api.get(path, &target.platform_key).send().await.unwrap(), 200).await
        };
        assert_eq!(shown(api, &path).await["last_used_at"], Value::Null);
        assert_eq!(submits(api, &target, &format!("{}x", target.key)).await, 401);
        assert_eq!(shown(api, &path).await["last_used_at"], Value::Null);
        let before = Utc::now() - TimeDelta::microseconds(1);
        assert_eq!(submits(api, &target, &target.key).await, 202);
        let first = time(&shown(api, &path).await["last_used_at"]);
        assert!(first >= before && first <= Utc::now());
        assert_eq!(submits(api, &target, &target.key).await, 202);
        let second = time(&shown(api, &path).await["last_used_at"]);
        assert!(second > first);
        let listed = shown(api, &keys_of(&target)).await;
        assert_eq!(time(&listed["results"][0]["last_used_at"]), second);
        let manager = shown(api, &platform).await;
        assert!(time(&manager["results"][0]["last_used_at"]) > second, "its own call counts");
        server.stop().await;

        let server = Server::start(&database).await;
        assert_eq!(time(&shown(&server.api, &path).await["last_used_at"]), second, "it is kept");
        // What another node kept later stays, what is older is passed over.
        let id = path.split('/').rev().nth(1).unwrap().parse().unwrap();
        let later = second + TimeDelta::hours(1);
        for (told, kept) in [(later, later), (first, later)] {
            server.engine.store().record_uses(vec![(id, told)]).await.unwrap();
            assert_eq!(server.engine.store().last_uses(vec![id]).await.unwrap()[&id], kept);
        }
        server.stop().await;
    }
}
