//! Organisations and keys: shown once, stored never, closed at once.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{OPERATOR, PATIENCE, Server, Target, json_of, on_each_database};
use crate::wire::{call, echo, managed, places, refusal};

on_each_database! {
    async fn a_key_is_shown_once_and_opens_nothing_once_it_is_revoked_or_expired(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let platform = &target.platform_key;
        let keys = managed(&format!("api-deployment/{}/key/", target.id));
        let write = json!({"description": "second"});
        let made = json_of(call(api, Method::POST, &keys, platform, &write).await, 201).await;
        let second = made["api_key"].as_str().unwrap().to_owned();
        let path = format!("{keys}{}/", made["id"].as_str().unwrap());
        let mut shown = Vec::new();
        for path in [&keys, &path, &managed("api-deployment/"), &managed(&format!("api-deployment/{}/", target.id))] {
            let body = json_of(call(api, Method::GET, path, platform, &Value::Null).await, 200).await;
            shown.push(body.to_string());
        }
        for text in &shown {
            assert!(!text.contains(&second[5..40]) && !text.contains(&target.key[5..40]), "{text}");
        }
        assert!(shown[1].contains(&second[second.len() - 4..]), "{}", shown[1]);

        let input = json!({"input_data": 1});
        let bearer = Target { key: second.clone(), ..target.clone() };
        assert_eq!(api.submit(&bearer, &input).await.status(), 202);
        for _ in 0..2 {
            assert_eq!(call(api, Method::DELETE, &path, platform, &Value::Null).await.status(), 204);
            refusal(api.submit(&bearer, &input).await, 401, "unauthorized").await;
        }
        assert_eq!(api.submit(&target, &input).await.status(), 202, "the other key still opens");
        let gone = json_of(call(api, Method::GET, &path, platform, &Value::Null).await, 200).await;
        assert_eq!(gone["is_active"], false);

        for (write, place) in [
            (json!({"expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
            (json!({"expires_at": "soon"}), "expires_at"),
            (json!({"expires_at": 1}), "expires_at"),
            (json!({"description": "a\u{0}"}), "description"),
            (json!({"key": "mine"}), "key"),
        ] {
            let answer = call(api, Method::POST, &keys, platform, &write).await;
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place]);
        }
        // A key far in the future and one of a far year are stored as they are.
        let write = json!({"expires_at": "2999-12-31T23:59:59.123456789+02:00"});
        let made = json_of(call(api, Method::POST, &keys, platform, &write).await, 201).await;
        assert_eq!(made["expires_at"], "2999-12-31T21:59:59.123456Z");
        let path = format!("{keys}{}/", made["id"].as_str().unwrap());
        let read = json_of(call(api, Method::GET, &path, platform, &Value::Null).await, 200).await;
        assert_eq!(read["expires_at"], made["expires_at"]);
        let write = json!({"expires_at": chrono::Utc::now() + chrono::TimeDelta::milliseconds(1500)});
        let made = json_of(call(api, Method::POST, &keys, platform, &write).await, 201).await;
        let bearer = Target { key: made["api_key"].as_str().unwrap().into(), ..target.clone() };
        assert_eq!(api.submit(&bearer, &input).await.status(), 202);
        let expiring = async {
            while api.submit(&bearer, &input).await.status() == 202 {}
        };
        tokio::time::timeout(PATIENCE, expiring).await.expect("it expires");
        refusal(api.submit(&bearer, &input).await, 401, "unauthorized").await;
        server.stop().await;
    }
}

on_each_database! {
    async fn an_organisation_has_a_slug_of_its_own_and_is_made_by_the_operator(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let path = "/api/v1/admin/organization";
        let operator = OPERATOR;
        let made = json_of(call(api, Method::POST, path, operator, &json!({"org_id": "a-1", "name": "A \u{1F980}"})).await, 201).await;
        assert_eq!(made["name"], "A \u{1F980}");
        assert!(made["platform_key"].as_str().unwrap().starts_with("unstp_"));
        refusal(call(api, Method::POST, path, operator, &json!({"org_id": "a-1"})).await, 409, "name_taken").await;
        for (write, place) in [
            (json!({"org_id": "A"}), "org_id"),
            (json!({"org_id": ""}), "org_id"),
            (json!({"org_id": "-a"}), "org_id"),
            (json!({"org_id": "a/b"}), "org_id"),
            (json!({"org_id": "a\u{0}"}), "org_id"),
            (json!({"org_id": "x".repeat(64)}), "org_id"),
            (json!({"org_id": "b", "name": "a\u{0}"}), "name"),
            (json!({"name": "a"}), "org_id"),
            (json!({"org_id": "b", "slug": "b"}), "slug"),
        ] {
            let answer = call(api, Method::POST, path, operator, &write).await;
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place]);
        }
        let list = json_of(call(api, Method::GET, path, operator, &Value::Null).await, 200).await;
        assert_eq!((&list["count"], &list["results"][0]["org_id"]), (&json!(1), &json!("a-1")));
        assert!(!list.to_string().contains("unstp_"));
        server.stop().await;
    }
}
