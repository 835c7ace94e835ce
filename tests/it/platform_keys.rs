//! Platform keys: tiers, rotation, and the key that must stay.

use chrono::{TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Api, OPERATOR, ORG, PATIENCE, Server, json_of, on_each_database};
use crate::wire::{call, connect, echo, managed, parsed, places, refusal};

const TIERS: [&str; 3] = ["read", "read_write", "full_access"];

/// Makes a platform key; returns its path and the key.
async fn make(api: &Api, bearer: &str, write: Value) -> (String, String) {
    let keys = managed("platform-key/");
    let made = json_of(call(api, Method::POST, &keys, bearer, &write).await, 201).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (format!("{keys}{}/", text("id")), text("platform_key"))
}

async fn opens(api: &Api, key: &str) -> u16 {
    api.get(&managed("workflow/"), key).send().await.unwrap().status().as_u16()
}

/// Sends a request as it stands; returns status and body as soon as they are
/// there, since a body that never comes keeps the connection open.
async fn told(api: &Api, request: &str) -> (u16, Value) {
    let mut stream = connect(api).await;
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let reading = async {
        loop {
            let (status, body) = parsed(&String::from_utf8_lossy(&answer));
            if !body.is_null() || stream.read_buf(&mut answer).await.unwrap() == 0 {
                return (status, body);
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it answers before the body is there")
}

on_each_database! {
    async fn each_tier_may_do_what_the_table_says_and_is_told_before_its_body_is_read(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let full = &target.platform_key;
        let (spare, _) = make(api, full, json!({"name": "spare", "tier": "read"})).await;
        let deployment = managed(&format!("api-deployment/{}/", target.id));
        let keys = format!("{deployment}key/");
        let listed = json_of(api.get(&keys, full).send().await.unwrap(), 200).await;
        let key = format!("{keys}{}/", listed["results"][0]["id"].as_str().unwrap());
        let made = json_of(api.get(&deployment, full).send().await.unwrap(), 200).await;
        let workflow = managed(&format!("workflow/{}/", made["workflow"].as_str().unwrap()));
        let (read, write, all) = (0, 1, 2);
        let table = [
            (managed("workflow/"), vec![(Method::GET, read), (Method::POST, write)]),
            (workflow.clone(), vec![(Method::GET, read), (Method::PUT, write), (Method::PATCH, write), (Method::DELETE, all)]),
            (format!("{workflow}validate/"), vec![(Method::POST, write)]),
            (managed("api-deployment/"), vec![(Method::GET, read), (Method::POST, write)]),
            (deployment, vec![(Method::GET, read), (Method::PUT, write), (Method::PATCH, write), (Method::DELETE, all)]),
            (keys, vec![(Method::GET, read), (Method::POST, all)]),
            (key.clone(), vec![(Method::GET, read), (Method::PUT, all), (Method::PATCH, all), (Method::DELETE, all)]),
            (format!("{key}rotate/"), vec![(Method::POST, all)]),
            (managed("platform-key/"), vec![(Method::GET, read), (Method::POST, all)]),
            (spare.clone(), vec![(Method::GET, read), (Method::PUT, all), (Method::PATCH, all), (Method::DELETE, all)]),
            (format!("{spare}rotate/"), vec![(Method::POST, all)]),
            (managed("audit/"), vec![(Method::GET, read)]),
        ];
        for (has, tier) in TIERS.into_iter().enumerate() {
            let (_, bearer) = make(api, full, json!({"name": tier, "tier": tier})).await;
            for (path, methods) in &table {
                for (method, needed) in methods.iter().filter(|(method, _)| *method != Method::DELETE || has < 2) {
                    // A body that is announced and never comes: who may not write is told at once.
                    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\nconnection: close\r\n");
                    if has < *needed {
                        let (status, body) = told(api, &format!("{head}content-length: 9\r\n\r\n")).await;
                        assert_eq!((status, &body["errors"][0]["code"]), (403, &json!("forbidden")), "{tier} {method} {path}");
                    } else {
                        let (status, _) = told(api, &format!("{head}content-length: 1\r\n\r\n[")).await;
                        let expected = if *method == Method::GET || path.ends_with("validate/") { 200 } else { 400 };
                        assert_eq!(status, expected, "{tier} {method} {path}");
                    }
                }
            }
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn a_platform_key_is_shown_once_and_can_be_changed_rotated_and_revoked(database) {
        let server = Server::start(&database).await;
        let (api, full) = (&server.api, server.api.organisation(ORG).await);
        let end = Utc::now() + TimeDelta::hours(1);
        let (path, key) = make(api, &full, json!({"name": "ci", "tier": "read_write", "expires_at": end})).await;
        assert!(millrace::ids::Key::parse(&key).is_some(), "a key with its checksum");
        assert_eq!(opens(api, &key).await, 200);
        let mut shown = Vec::new();
        for path in [&path, &managed("platform-key/")] {
            shown.push(json_of(api.get(path, &full).send().await.unwrap(), 200).await);
        }
        assert_eq!((&shown[0]["name"], &shown[0]["tier"]), (&json!("ci"), &json!("read_write")));
        assert_eq!((shown[0]["prefix"].as_str().unwrap(), shown[0]["last_four"].as_str().unwrap()), (&key[..10], &key[key.len() - 4..]));
        assert_eq!(shown[1]["count"], 2);
        assert!(shown.iter().all(|body| !body.to_string().contains(&key[10..40])));

        let change = async |body: Value| call(api, Method::PATCH, &path, &full, &body).await;
        let body = json_of(change(json!({"name": "ci 2", "tier": "read"})).await, 200).await;
        assert_eq!((&body["name"], &body["tier"]), (&json!("ci 2"), &json!("read")));
        let workflow = json!({"name": "w", "type": "TASK", "steps": echo()});
        refusal(call(api, Method::POST, &managed("workflow/"), &key, &workflow).await, 403, "forbidden").await;
        assert_eq!(change(json!({"is_active": false})).await.status(), 200);
        assert_eq!(opens(api, &key).await, 401);
        refusal(call(api, Method::POST, &format!("{path}rotate/"), &full, &json!({})).await, 409, "key_closed").await;
        assert_eq!(change(json!({"is_active": true, "expires_at": null})).await.status(), 200);

        let rotation = json!({"overlap_seconds": 60, "name": "ci 3"});
        let rotated = json_of(call(api, Method::POST, &format!("{path}rotate/"), &full, &rotation).await, 201).await;
        let second = rotated["platform_key"].as_str().unwrap();
        assert_eq!((&rotated["tier"], &rotated["name"], &rotated["replaces"]["name"]), (&json!("read"), &json!("ci 3"), &json!("ci 2")));
        let end = rotated["replaces"]["expires_at"].as_str().unwrap().parse().unwrap();
        let hash = millrace::ids::Key::parse(&key).unwrap().hash();
        let directory = &server.engine.context().directory;
        assert!(directory.manager(&hash, end - TimeDelta::microseconds(1)).is_some());
        assert!(directory.manager(&hash, end).is_none());
        assert_eq!((opens(api, &key).await, opens(api, second).await), (200, 200));

        for _ in 0..2 {
            assert_eq!(call(api, Method::DELETE, &path, &full, &Value::Null).await.status(), 204);
        }
        assert_eq!((opens(api, &key).await, opens(api, second).await), (401, 200));
        refusal(change(json!({"is_active": true})).await, 409, "key_closed").await;

        for (write, place) in [
            (json!({"tier": "read"}), "name"),
            (json!({"name": "", "tier": "read"}), "name"),
            (json!({"name": "x".repeat(201), "tier": "read"}), "name"),
            (json!({"name": "x"}), "tier"),
            (json!({"name": "x", "tier": "root"}), "tier"),
            (json!({"name": "x", "tier": "read", "expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
            (json!({"name": "x", "tier": "read", "key": "mine"}), "key"),
        ] {
            let answer = call(api, Method::POST, &managed("platform-key/"), &full, &write).await;
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place]);
        }
        // What is another organisation's is not there.
        let stranger = api.organisation("stranger").await;
        let theirs = path.replace("/acme/", "/stranger/");
        for method in [Method::GET, Method::DELETE] {
            refusal(call(api, method, &theirs, &stranger, &Value::Null).await, 404, "not_found").await;
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn an_organisation_cannot_lock_itself_out_and_the_operator_can_let_it_in(database) {
        let server = Server::start(&database).await;
        let (api, first) = (&server.api, server.api.organisation(ORG).await);
        let list = json_of(api.get(&managed("platform-key/"), &first).send().await.unwrap(), 200).await;
        let first_path = managed(&format!("platform-key/{}/", list["results"][0]["id"].as_str().unwrap()));
        // Keys that do not count: of a lower tier, switched off.
        make(api, &first, json!({"name": "writer", "tier": "read_write"})).await;
        make(api, &first, json!({"name": "off", "tier": "full_access", "is_active": false})).await;
        let refused = async |path: &str, bearer: &str| {
            for body in [json!({"tier": "read_write"}), json!({"is_active": false})] {
                refusal(call(api, Method::PATCH, path, bearer, &body).await, 409, "last_key").await;
            }
            refusal(call(api, Method::DELETE, path, bearer, &Value::Null).await, 409, "last_key").await;
            assert_eq!(opens(api, bearer).await, 200);
        };
        refused(&first_path, &first).await;
        let (second_path, second) = make(api, &first, json!({"name": "second", "tier": "full_access"})).await;
        // Two that take each other's key away at once: one of them stays.
        let (one, other) = tokio::join!(
            call(api, Method::DELETE, &first_path, &second, &Value::Null),
            call(api, Method::DELETE, &second_path, &first, &Value::Null),
        );
        let ends = [one.status().as_u16(), other.status().as_u16()];
        assert!(ends.contains(&204) && (ends.contains(&409) || ends.contains(&401)), "{ends:?}");
        let (path, bearer) = if ends[0] == 204 { (&second_path, &second) } else { (&first_path, &first) };
        refused(path, bearer).await;
        // The last one may rotate: its successor is there before it ends.
        let rotate = call(api, Method::POST, &format!("{path}rotate/"), bearer, &json!({"overlap_seconds": 0})).await;
        let rotated = json_of(rotate, 201).await;
        assert_eq!(opens(api, bearer).await, 401);
        assert_eq!(opens(api, rotated["platform_key"].as_str().unwrap()).await, 200);

        let path = format!("/api/v1/admin/organization/{ORG}/platform-key/");
        let write = json!({"name": "rescue", "tier": "full_access"});
        let made = json_of(call(api, Method::POST, &path, OPERATOR, &write).await, 201).await;
        assert_eq!(opens(api, made["platform_key"].as_str().unwrap()).await, 200);
        refusal(call(api, Method::POST, &path, &first, &write).await, 401, "unauthorized").await;
        let nowhere = "/api/v1/admin/organization/nowhere/platform-key/";
        refusal(call(api, Method::POST, nowhere, OPERATOR, &write).await, 404, "not_found").await;
        server.stop().await;
    }
}

on_each_database! {
    async fn the_operator_renames_an_organisation_and_deletes_it_once_it_is_empty(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let path = format!("/api/v1/admin/organization/{ORG}/");
        let call = async |method, body: Value| call(api, method, &path, OPERATOR, &body).await;
        let shown = json_of(call(Method::GET, Value::Null).await, 200).await;
        assert_eq!((&shown["org_id"], &shown["name"]), (&json!(ORG), &json!(ORG)));
        let body = json_of(call(Method::PATCH, json!({"name": "Acme Ltd"})).await, 200).await;
        assert_eq!((&body["name"], &body["org_id"]), (&json!("Acme Ltd"), &json!(ORG)));
        for (body, place) in [(json!({"name": 1}), "name"), (json!({"name": null}), "name"), (json!({"org_id": "x"}), "org_id")] {
            assert_eq!(places(&refusal(call(Method::PATCH, body).await, 400, "invalid_value").await), [place]);
        }
        refusal(call(Method::DELETE, Value::Null).await, 409, "still_in_use").await;
        assert_eq!(opens(api, &target.platform_key).await, 200);
        let deployment = managed(&format!("api-deployment/{}/", target.id));
        let made = json_of(api.get(&deployment, &target.platform_key).send().await.unwrap(), 200).await;
        let workflow = managed(&format!("workflow/{}/", made["workflow"].as_str().unwrap()));
        for path in [deployment, workflow] {
            let gone = api.client.delete(format!("{}{path}", api.url)).bearer_auth(&target.platform_key);
            assert_eq!(gone.send().await.unwrap().status(), 204);
        }
        assert_eq!(call(Method::DELETE, Value::Null).await.status(), 204);
        assert_eq!(opens(api, &target.platform_key).await, 401);
        for method in [Method::GET, Method::DELETE] {
            refusal(call(method, Value::Null).await, 404, "not_found").await;
        }
        for odd in ["A", "%00", "a%2fb", "-"] {
            let path = format!("{}/api/v1/admin/organization/{odd}/", api.url);
            refusal(api.client.get(path).bearer_auth(OPERATOR).send().await.unwrap(), 404, "not_found").await;
        }
        server.stop().await;
    }
}
