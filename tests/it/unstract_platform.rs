//! Unstract's own management paths, as its client reads them.

use serde_json::{Value, json};

use crate::support::{Api, ORG, Server, json_of, on_each_database};

const STEPS: &str = r#"[{"uses": "jq", "with": {"filter": "."}}]"#;

fn steps() -> Value {
    serde_json::from_str(STEPS).unwrap()
}

async fn get(api: &Api, path: &str, key: &str) -> Value {
    json_of(api.get(path, key).send().await.unwrap(), 200).await
}

fn names(page: &Value) -> Vec<&str> {
    let rows = page["results"].as_array().unwrap().iter();
    rows.map(|row| row["api_name"].as_str().unwrap()).collect()
}

on_each_database! {
    async fn a_platform_key_learns_who_it_is(database) {
        let server = Server::start(&database).await;
        let key = server.api.organisation(ORG).await;
        let answer = get(&server.api, "/api/v1/unstract/whoami/", &key).await;
        let name = &answer["key_name"];
        assert!(!name.as_str().unwrap().is_empty());
        let expected = json!({"organization_id": ORG, "organization_name": ORG,
            "permission": "full_access", "key_name": name});
        assert_eq!(answer, expected);
        server.stop().await;
    }
}

on_each_database! {
    async fn deployments_are_listed_with_what_has_run_on_them(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(steps()).await;
        let mut ids = Vec::new();
        for n in 0..6 {
            let id = api.accepted(&target, &json!({"input_data": n})).await;
            api.ended(&target, &id).await;
            ids.insert(0, id);
        }
        let path = format!("/api/v1/unstract/{ORG}/api/deployment/");
        let page = get(api, &path, &target.platform_key).await;
        let row = &page["results"][0];
        assert_eq!((&page["count"], &row["run_count"]), (&json!(1), &json!(6)));
        let latest = row["last_5_run_statuses"].as_array().unwrap();
        let told: Vec<_> = latest.iter().map(|run| run["execution_id"].as_str().unwrap()).collect();
        assert_eq!(told, ids[..5], "the newest first");
        assert!(latest.iter().all(|run| run["status"] == "COMPLETED"));
        assert_eq!(row["last_run_time"], latest[0]["timestamp"]);
        let endpoint = format!("/deployment/api/{ORG}/{}/", target.api_name);
        assert_eq!(row["api_endpoint"], endpoint);
        server.stop().await;
    }
}

on_each_database! {
    async fn the_list_is_narrowed_ordered_and_paged(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let other = api.organisation("other").await;
        for (org, key, names) in [(ORG, &key, &["a_b", "axb", "Left"][..]), (
            "other", &other, &["hidden"],
        )] {
            for name in names {
                api.deploy_in(org, key, name, steps(), json!({"description": "50% \\ done"})).await;
            }
        }
        let path = format!("/api/v1/unstract/{ORG}/api/deployment/");
        for (query, expected) in [
            ("search=A_B", &["a_b"][..]),
            ("search=%25+%5C", &["Left", "a_b", "axb"]),
            ("search=lef", &["Left"]),
            ("api_name=axb", &["axb"]),
            ("api_name=hidden", &[]),
            ("ordering=-created_at&page_size=2", &["Left", "axb"]),
            ("ordering=-created_at&page_size=2&page=2", &["a_b"]),
        ] {
            let page = get(api, &format!("{path}?{query}"), &key).await;
            let mut found = names(&page);
            if !query.contains("ordering") {
                // Databases differ in how they order cases.
                found.sort_unstable();
            }
            assert_eq!(found, expected, "{query}");
        }
        let page = get(api, &format!("{path}?search=%25&ordering=api_name&page_size=1"), &key).await;
        let next = page["next"].as_str().unwrap();
        assert_eq!(next, format!("{path}?search=%25&ordering=api_name&page=2&page_size=1"));
        let page = get(api, next, &key).await;
        assert_eq!((names(&page).len(), &page["count"]), (1, &json!(3)));
        for query in ["serach=x", "ordering=size", "workflow=", "search=%00", "page=0"] {
            let answer = api.get(&format!("{path}?{query}"), &key).send().await.unwrap();
            let refusal = json_of(answer, 400).await;
            assert_eq!(refusal["errors"][0]["attr"], query.split('=').next().unwrap());
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn what_was_read_can_be_sent_back(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(steps()).await;
        let base = format!("/unstract/{ORG}/api/v2");
        let deployment = format!("{base}/api-deployment/{}/", target.id);
        let read = get(api, &deployment, &target.platform_key).await;
        let workflow = format!("{base}/workflow/{}/", read["workflow"].as_str().unwrap());
        for path in [deployment, workflow] {
            let mut read = get(api, &path, &target.platform_key).await;
            read["description"] = json!("changed");
            let put = api.client.put(format!("{}{path}", api.url)).bearer_auth(&target.platform_key);
            let written = json_of(put.json(&read).send().await.unwrap(), 200).await;
            assert_eq!(written["description"], "changed");
            // What was read before this change is not what is there now.
            // And what there is not cannot be taken away.
            let patches = [("revision", &read["revision"]), ("id", &json!("another"))];
            for (name, value) in patches.into_iter().chain([("typo", &json!(null))]) {
                let patch = json!({name: value});
                let request = api.client.patch(format!("{}{path}", api.url));
                let request = request.bearer_auth(&target.platform_key).json(&patch);
                let refusal = json_of(request.send().await.unwrap(), 400).await;
                assert_eq!(refusal["errors"][0]["attr"], name);
            }
        }
        server.stop().await;
    }
}
