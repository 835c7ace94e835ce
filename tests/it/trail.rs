//! The audit trail as an organisation reads it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, OPERATOR, ORG, Server, json_of, on_each_database};
use crate::wire::{call, delivery, echo, managed, names, places, refusal};

const NOBODY: &str = "0190a0a0-0000-7000-8000-000000000000";

async fn trail(api: &Api, key: &str, query: &str) -> Value {
    let path = managed(&format!("audit/?{query}"));
    json_of(api.get(&path, key).send().await.unwrap(), 200).await
}

/// Makes a change that must leave one entry; returns its answer.
async fn leaves_one(
    api: &Api,
    reader: &str,
    (bearer, method, path, body): (&str, Method, &str, Value),
    (action, resource): (&str, &str),
) -> Value {
    let before = trail(api, reader, "page_size=1").await["count"].as_u64().unwrap();
    let answer = call(api, method.clone(), path, bearer, &body).await;
    let status = answer.status().as_u16();
    assert!([200, 201, 202, 204].contains(&status), "{method} {path}: {status}");
    let answer = json_of(answer, status).await;
    let after = trail(api, reader, "page_size=1").await;
    assert_eq!(after["count"], before + 1, "{method} {path}");
    let entry = &after["results"][0];
    let actor = if bearer == OPERATOR { "operator" } else { "platform_key" };
    let told = (&entry["actor"]["kind"], &entry["action"], &entry["resource"]);
    assert_eq!(told, (&json!(actor), &json!(action), &json!(resource)), "{method} {path}");
    assert_eq!(entry["actor"]["id"].is_string(), actor == "platform_key");
    for field in ["id", "created_at", "resource_id", "resource_name", "address", "request_id"] {
        assert!(entry[field].is_string(), "{field} of {entry}");
    }
    answer
}

/// What an entry tells was done, and to what.
fn told(entry: &Value) -> String {
    format!("{} {}", entry["action"].as_str().unwrap(), entry["resource"].as_str().unwrap())
}

on_each_database! {
    async fn every_route_that_changes_something_leaves_exactly_one_entry(database) {
        let server = Server::start(&database).await;
        let (api, key) = (&server.api, server.api.organisation(ORG).await);
        let key = key.as_str();
        let id_of = |answer: &Value| answer["id"].as_str().unwrap().to_owned();
        let one = async |method, path: &str, body, action, resource| {
            leaves_one(api, key, (key, method, path, body), (action, resource)).await
        };
        let workflows = managed("workflow/");
        let write = json!({"name": "w", "type": "TASK", "steps": echo()});
        let workflow = id_of(&one(Method::POST, &workflows, write.clone(), "create", "workflow").await);
        let path = format!("{workflows}{workflow}/");
        one(Method::PUT, &path, write, "change", "workflow").await;
        one(Method::PATCH, &path, json!({"description": "d"}), "change", "workflow").await;

        let deployments = managed("api-deployment/");
        let write = json!({"api_name": "d", "workflow": workflow});
        let made = one(Method::POST, &deployments, write.clone(), "create", "api-deployment").await;
        let deployment = format!("{deployments}{}/", id_of(&made));
        one(Method::PUT, &deployment, write, "change", "api-deployment").await;
        one(Method::PATCH, &deployment, json!({"max_files": 2}), "change", "api-deployment").await;
        // A workflow that is served: still one entry, whatever it brings along.
        one(Method::PATCH, &path, json!({"description": "e"}), "change", "workflow").await;

        for (list, resource, write) in [
            (format!("{deployment}key/"), "key", json!({})),
            (managed("platform-key/"), "platform-key", json!({"name": "n", "tier": "read"})),
        ] {
            let made = one(Method::POST, &list, write.clone(), "create", resource).await;
            let path = format!("{list}{}/", id_of(&made));
            one(Method::PUT, &path, write, "change", resource).await;
            one(Method::PATCH, &path, json!({"is_active": true}), "change", resource).await;
            one(Method::POST, &format!("{path}rotate/"), json!({}), "rotate", resource).await;
            one(Method::DELETE, &path, Value::Null, "revoke", resource).await;
            let before = trail(api, key, "").await["count"].clone();
            assert_eq!(call(api, Method::DELETE, &path, key, &Value::Null).await.status(), 204);
            assert_eq!(trail(api, key, "").await["count"], before, "a revoked key stays as it is");
        }
        let told = delivery(&server, key, &id_of(&made), NOBODY).await;
        let redeliver = managed(&format!("webhook-delivery/{told}/redeliver/"));
        one(Method::POST, &redeliver, Value::Null, "redeliver", "webhook-delivery").await;

        one(Method::DELETE, &deployment, Value::Null, "delete", "api-deployment").await;
        one(Method::DELETE, &path, Value::Null, "delete", "workflow").await;

        let organisation = format!("/api/v1/admin/organization/{ORG}/");
        let rename = (OPERATOR, Method::PATCH, organisation.as_str(), json!({"name": "new"}));
        leaves_one(api, key, rename, ("change", "organization")).await;
        let keys = format!("{organisation}platform-key/");
        let rescue = (OPERATOR, Method::POST, keys.as_str(), json!({"name": "n", "tier": "read"}));
        leaves_one(api, key, rescue, ("create", "platform-key")).await;
        let owner = server.engine.store().organisation(ORG).await.unwrap().id;
        assert_eq!(call(api, Method::DELETE, &organisation, OPERATOR, &Value::Null).await.status(), 204);
        let page = millrace::store::page::Page { index: 0, size: 1000 };
        let left = server.engine.store().audit_entries(owner, Default::default(), page).await.unwrap();
        assert_eq!((left.rows[0].action.as_str(), left.rows[0].resource.as_str()), ("delete", "organization"));
        let first = left.rows.last().unwrap();
        assert_eq!((first.action.as_str(), first.resource.as_str()), ("create", "organization"));
        server.stop().await;
    }
}

on_each_database! {
    async fn a_rerun_leaves_exactly_one_entry(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let id = api.accepted(&target, &json!({"input_data": 1})).await;
        api.ended(&target, &id).await;
        let key = target.platform_key.as_str();
        let rerun = managed(&format!("execution/{id}/rerun/"));
        leaves_one(api, key, (key, Method::POST, &rerun, json!({})), ("rerun", "execution")).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn a_refused_change_leaves_no_entry(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let key = target.platform_key.as_str();
        let deployment = format!("api-deployment/{}/", target.id);
        let own = json_of(api.get(&managed("platform-key/"), key).send().await.unwrap(), 200).await;
        let own = managed(&format!("platform-key/{}/", own["results"][0]["id"].as_str().unwrap()));
        let reader = json!({"name": "reader", "tier": "read"});
        let made = json_of(call(api, Method::POST, &managed("platform-key/"), key, &reader).await, 201).await;
        let reader = made["platform_key"].as_str().unwrap();
        let before = trail(api, key, "").await["count"].clone();
        for (bearer, method, path, body, status) in [
            (key, Method::PATCH, managed(&deployment), json!({"max_files": 0}), 400),
            (key, Method::PATCH, managed(&deployment), json!({"workflow": NOBODY}), 400),
            (key, Method::POST, managed("workflow/"), json!({"name": "demo", "type": "TASK", "steps": echo()}), 409),
            (key, Method::POST, managed(&format!("{deployment}key/")), json!({"expires_at": "2020-01-01T00:00:00Z"}), 400),
            (key, Method::DELETE, managed(&format!("{deployment}key/{NOBODY}/")), Value::Null, 404),
            (key, Method::DELETE, own.clone(), Value::Null, 409),
            (key, Method::PATCH, own.clone(), json!({"tier": "read"}), 409),
            (reader, Method::DELETE, own, Value::Null, 403),
            (OPERATOR, Method::DELETE, format!("/api/v1/admin/organization/{ORG}/"), Value::Null, 409),
        ] {
            assert_eq!(call(api, method.clone(), &path, bearer, &body).await.status(), status, "{method} {path}");
        }
        assert_eq!(trail(api, key, "").await["count"], before);
        server.stop().await;
    }
}

on_each_database! {
    async fn the_trail_is_read_newest_first_and_by_what_is_looked_for(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let key = target.platform_key.as_str();
        let deployment = managed(&format!("api-deployment/{}/", target.id));
        let secret = json!({"description": "not to be repeated", "display_name": "nor this"});
        assert_eq!(call(api, Method::PATCH, &deployment, key, &secret).await.status(), 200);
        let made = json_of(call(api, Method::POST, &format!("{deployment}key/"), key, &json!({})).await, 201).await;
        let path = format!("{deployment}key/{}/", made["id"].as_str().unwrap());
        assert_eq!(call(api, Method::DELETE, &path, key, &Value::Null).await.status(), 204);

        let whole = trail(api, key, "").await;
        let entries = whole["results"].as_array().unwrap();
        let actions: Vec<_> = entries.iter().map(told).collect();
        assert_eq!(actions, ["revoke key", "create key", "change api-deployment", "create api-deployment", "create workflow", "create organization"]);
        let times: Vec<_> = entries.iter().map(|entry| entry["created_at"].as_str().unwrap()).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older), "{times:?}");
        assert_eq!(names(&entries[0]).len(), 10);
        assert_eq!(entries[2]["changed"], json!(["display_name", "description"]));
        let text = whole.to_string();
        assert!(!text.contains("repeated") && !text.contains("nor this"));
        for secret in [&target.key, &target.platform_key, &made["api_key"].as_str().unwrap().to_owned()] {
            assert!(!text.contains(&secret[10..40]), "{text}");
        }

        let bearer = entries[0]["actor"]["id"].as_str().unwrap();
        let (from, to) = (times[2], times[0]);
        for (query, expected) in [
            ("resource=key".to_owned(), &[0, 1][..]),
            ("resource=nothing".to_owned(), &[]),
            ("resource=key&action=revoke".to_owned(), &[0]),
            (format!("resource_id={}", target.id), &[2, 3]),
            (format!("resource_id={NOBODY}"), &[]),
            ("action=create".to_owned(), &[1, 3, 4, 5]),
            ("actor=operator".to_owned(), &[5]),
            ("actor=files".to_owned(), &[]),
            (format!("actor={bearer}"), &[0, 1, 2, 3, 4]),
            (format!("from={from}"), &[0, 1, 2]),
            (format!("to={from}"), &[3, 4, 5]),
            (format!("from={from}&to={to}"), &[1, 2]),
        ] {
            let found = trail(api, key, &query).await;
            let expected: Vec<_> = expected.iter().map(|index| entries[*index].clone()).collect();
            assert_eq!(found["results"], json!(expected), "{query}");
            assert_eq!(found["count"], expected.len(), "{query}");
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn the_links_of_the_trail_keep_its_filters_and_odd_filters_are_refused(database) {
        let server = Server::start(&database).await;
        let (api, target) = (&server.api, server.api.deploy(echo()).await);
        let key = target.platform_key.as_str();
        let keys = managed(&format!("api-deployment/{}/key/", target.id));
        assert_eq!(call(api, Method::POST, &keys, key, &json!({})).await.status(), 201);
        let stranger = api.organisation("stranger").await;
        // The links keep the filters.
        let mut path = Some(managed("audit/?action=create&page_size=3"));
        let mut seen = Vec::new();
        while let Some(next) = path {
            let page = json_of(api.get(&next, key).send().await.unwrap(), 200).await;
            seen.extend(page["results"].as_array().unwrap().iter().map(told));
            path = page["next"].as_str().map(ToOwned::to_owned);
        }
        assert_eq!(seen, ["create key", "create api-deployment", "create workflow", "create organization"]);
        for (query, place) in [
            ("action=burn", "action"), ("actor=me", "actor"), ("resource_id=x", "resource_id"),
            ("from=yesterday", "from"), ("until=x", "until"), ("resource=%00", "resource"), ("page=0", "page"),
        ] {
            let answer = api.get(&managed(&format!("audit/?{query}")), key).send().await.unwrap();
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place]);
        }
        let theirs = api.get("/unstract/stranger/api/v2/audit/", &stranger).send().await.unwrap();
        assert_eq!(json_of(theirs, 200).await["count"], 1, "another organisation sees its own");
        server.stop().await;
    }
}
