//! Managing workflows and deployments: lists, lost updates, faults by place.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::support::{Api, ORG, PATIENCE, Server, json_of, on_each_database};
use crate::wire::{call, echo, endless, managed, places, refusal};

async fn call_if(
    api: &Api,
    method: Method,
    path: &str,
    key: &str,
    tag: &str,
    body: &Value,
) -> Response {
    let request = api.client.request(method, format!("{}{path}", api.url)).bearer_auth(key);
    request.header("if-match", tag).json(body).send().await.unwrap()
}

fn tag(answer: &Response) -> String {
    answer.headers()["etag"].to_str().unwrap().to_owned()
}

on_each_database! {
    async fn a_workflow_can_be_made_read_replaced_changed_and_deleted(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let list = managed("workflow/");
        let write = json!({"name": "w", "type": "TASK", "description": "text", "steps": echo()});
        let answer = call(api, Method::POST, &list, &key, &write).await;
        assert_eq!(tag(&answer), "\"1\"");
        let made = json_of(answer, 201).await;
        let path = format!("{list}{}/", made["id"].as_str().unwrap());
        let answer = call(api, Method::GET, &path, &key, &Value::Null).await;
        assert_eq!(tag(&answer), "\"1\"");
        assert_eq!(json_of(answer, 200).await, made);

        let body = refusal(call(api, Method::POST, &list, &key, &write).await, 409, "name_taken").await;
        assert!(!body.to_string().contains("constraint"), "{body}");

        // PUT replaces: what is left out takes its default.
        let write = json!({"name": "w2", "type": "TASK", "steps": echo()});
        let answer = call(api, Method::PUT, &path, &key, &write).await;
        assert_eq!(tag(&answer), "\"2\"");
        let body = json_of(answer, 200).await;
        assert_eq!((&body["name"], &body["description"]), (&json!("w2"), &json!("")));
        // PATCH changes: what is left out stays, null takes the default back.
        let answer = call(api, Method::PATCH, &path, &key, &json!({"description": "d"})).await;
        let body = json_of(answer, 200).await;
        assert_eq!((&body["name"], &body["description"]), (&json!("w2"), &json!("d")));
        let answer = call(api, Method::PATCH, &path, &key, &json!({"description": null})).await;
        assert_eq!(json_of(answer, 200).await["description"], "");
        let answer = call(api, Method::PATCH, &path, &key, &json!({"name": null})).await;
        assert_eq!(places(&refusal(answer, 400, "invalid_value").await), ["name"]);
        let answer = call(api, Method::PATCH, &path, &key, &json!({"type": "ETL"})).await;
        assert_eq!(places(&refusal(answer, 400, "invalid_value").await), ["type"]);
        assert_eq!(json_of(call(api, Method::POST, &format!("{path}validate/"), &key, &Value::Null).await, 200).await["valid"], true);

        assert_eq!(call(api, Method::DELETE, &path, &key, &Value::Null).await.status(), 204);
        for method in [Method::GET, Method::DELETE] {
            refusal(call(api, method, &path, &key, &Value::Null).await, 404, "not_found").await;
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn an_update_of_what_has_changed_in_between_is_refused(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let key = &target.platform_key;
        let deployment = managed(&format!("api-deployment/{}/", target.id));
        let made = json_of(call(api, Method::GET, &deployment, key, &Value::Null).await, 200).await;
        let workflow = managed(&format!("workflow/{}/", made["workflow"].as_str().unwrap()));
        let write_workflow = json!({"name": "w", "type": "TASK", "steps": echo()});
        let write_deployment = json!({"api_name": "demo", "workflow": made["workflow"]});
        for (path, write) in [(&workflow, &write_workflow), (&deployment, &write_deployment)] {
            let first = tag(&call(api, Method::GET, path, key, &Value::Null).await);
            let changed = call_if(api, Method::PATCH, path, key, &first, &json!({"description": "1"})).await;
            let second = tag(&changed);
            assert_eq!(changed.status(), 200);
            assert_ne!(first, second);
            for stale in [&first, "\"999\"", "x", "", &format!("W/{second}")] {
                for (method, body) in [(Method::PATCH, &json!({"description": "2"})), (Method::PUT, write)] {
                    refusal(call_if(api, method, path, key, stale, body).await, 409, "changed").await;
                }
            }
            for fresh in [second.clone(), format!("\"x\", {second}"), "*".to_owned()] {
                let now = tag(&call(api, Method::GET, path, key, &Value::Null).await);
                let fresh = fresh.replace(&second, &now);
                let answer = call_if(api, Method::PATCH, path, key, &fresh, &json!({"description": "3"})).await;
                assert_eq!(answer.status(), 200, "{fresh}");
            }
        }
        // Of two that race, one wins, and the other is told.
        let body = json!({"description": "race"});
        let racing = (0..8).map(|_| call(api, Method::PATCH, &deployment, key, &body));
        let answers = futures_util::future::join_all(racing).await;
        assert!(answers.iter().all(|answer| [200, 409].contains(&answer.status().as_u16())));
        assert!(answers.iter().any(|answer| answer.status() == 200));
        server.stop().await;
    }
}

on_each_database! {
    async fn a_fault_of_a_workflow_names_its_place(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let key = &target.platform_key;
        let workflows = managed("workflow/");
        let long = "x".repeat(201);
        let write = |change: Value| {
            let mut whole = json!({"name": "w", "type": "TASK", "steps": echo()});
            json_patch::merge(&mut whole, &change);
            whole
        };
        for (body, code, place) in [
            (write(json!({"name": null})), "invalid_value", "name"),
            (write(json!({"name": ""})), "invalid_value", "name"),
            (write(json!({"name": long})), "invalid_value", "name"),
            (write(json!({"name": "a\u{0}b"})), "invalid_value", "name"),
            (write(json!({"description": "a\u{0}b"})), "invalid_value", "description"),
            (write(json!({"description": "x".repeat(10_001)})), "invalid_value", "description"),
            (write(json!({"type": "task"})), "invalid_value", "type"),
            (write(json!({"kind": "TASK"})), "invalid_value", "kind"),
            (write(json!({"steps": {}})), "invalid_value", "steps"),
            (write(json!({"steps": [{}]})), "invalid_value", "steps[0].uses"),
            (write(json!({"steps": [{"uses": "jq", "whith": {}}]})), "invalid_value", "steps[0].whith"),
            (write(json!({"steps": []})), "invalid_workflow", "steps"),
            (write(json!({"steps": [{"uses": "no"}]})), "invalid_workflow", "steps[0].uses"),
            (write(json!({"steps": [{"uses": "jq", "with": {"filter": "]"}}]})), "invalid_workflow", "steps[0].with.filter"),
            (write(json!({"steps": [{"uses": "jq", "with": {"filter": ".", "x": 1}}]})), "invalid_workflow", "steps[0].with.x"),
            (
                write(json!({"steps": [{"uses": "extract_text"}, {"uses": "jq", "with": {"filter": "."}},
                    {"uses": "validate", "with": {"schema": {"type": "no"}}}]})),
                "invalid_workflow",
                "steps[2].with.schema",
            ),
        ] {
            let answer = call(api, Method::POST, &workflows, key, &body).await;
            assert_eq!(answer.status(), 400, "{place}");
            let body = refusal(answer, 400, code).await;
            let found = places(&body);
            assert!(found[0] == place || found[0].starts_with(&format!("{place}.")), "{place}: {body}");
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn a_fault_of_a_deployment_names_its_place(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let key = &target.platform_key;
        let deployments = managed("api-deployment/");
        let made = json_of(call(api, Method::GET, &deployments, key, &Value::Null).await, 200).await;
        let workflow = made["results"][0]["workflow"].clone();
        for (change, place) in [
            (json!({"api_name": "a b"}), "api_name"),
            (json!({"api_name": ""}), "api_name"),
            (json!({"api_name": "\u{e4}"}), "api_name"),
            (json!({"api_name": "x".repeat(65)}), "api_name"),
            (json!({"api_name": 1}), "api_name"),
            (json!({"workflow": "x"}), "workflow"),
            (json!({"workflow": null}), "workflow"),
            (json!({"display_name": "a\u{0}"}), "display_name"),
            (json!({"description": "a\u{0}"}), "description"),
            (json!({"deployment_type": "ETL"}), "deployment_type"),
            (json!({"deployment_type": "X"}), "deployment_type"),
            (json!({"is_active": "yes"}), "is_active"),
            (json!({"rate_limit": {"requests": 0}}), "rate_limit.requests"),
            (json!({"rate_limit": {"per_seconds": 0}}), "rate_limit.per_seconds"),
            (json!({"rate_limit": {"burst": 0}}), "rate_limit.burst"),
            (json!({"rate_limit": {"requests": 5_000_000_000_u64}}), "rate_limit.requests"),
            (json!({"rate_limit": {"bursts": 1}}), "rate_limit.bursts"),
            (json!({"max_concurrency": 0}), "max_concurrency"),
            (json!({"max_concurrency": -1}), "max_concurrency"),
            (json!({"max_files": 1001}), "max_files"),
            (json!({"max_file_bytes": 1.5}), "max_file_bytes"),
            (json!({"result_ttl_seconds": 1}), "result_ttl_seconds"),
            (json!({"unknown": 1}), "unknown"),
        ] {
            let mut body = json!({"api_name": "new", "workflow": workflow});
            json_patch::merge(&mut body, &change);
            let answer = call(api, Method::POST, &deployments, key, &body).await;
            assert_eq!(answer.status(), 400, "{place}");
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place]);
        }
        for body in [json!([]), json!("x"), json!(1)] {
            for path in [&managed("workflow/"), &deployments] {
                let answer = call(api, Method::POST, path, key, &body).await;
                refusal(answer, 400, "invalid_value").await;
            }
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn a_deployment_can_be_made_read_replaced_changed_and_deleted(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let key = &target.platform_key;
        let path = managed(&format!("api-deployment/{}/", target.id));
        let made = json_of(call(api, Method::GET, &path, key, &Value::Null).await, 200).await;
        assert_eq!(made["deployment_type"], "TASK");
        assert_eq!(made["api_endpoint"], format!("/deployment/{}/", target.public_id));
        assert!(made.get("api_key").is_none());
        let patch = json!({"max_files": 3, "rate_limit": {"burst": 7}, "display_name": "D", "result_ttl_seconds": 60});
        let body = json_of(call(api, Method::PATCH, &path, key, &patch).await, 200).await;
        assert_eq!(body["max_files"], 3);
        assert_eq!(body["rate_limit"], json!({"requests": 100_000, "per_seconds": 1, "burst": 7}));
        assert_eq!((&body["display_name"], &body["api_name"]), (&json!("D"), &json!("demo")));
        let patch = json!({"max_files": null, "rate_limit": null, "display_name": null, "result_ttl_seconds": null});
        let body = json_of(call(api, Method::PATCH, &path, key, &patch).await, 200).await;
        assert_eq!(body["max_files"], 32);
        assert_eq!(body["rate_limit"], json!({"requests": 100, "per_seconds": 60, "burst": 100}));
        assert_eq!(body["display_name"], "demo");
        assert_eq!(body["result_ttl_seconds"], Value::Null);
        assert_eq!(body["max_queued"], 100_000, "what a patch does not name stays");
        let write = json!({"api_name": "renamed", "workflow": made["workflow"], "deployment_type": "TASK"});
        let body = json_of(call(api, Method::PUT, &path, key, &write).await, 200).await;
        assert_eq!(body["max_queued"], 1000, "what a replacement does not name takes its default");
        assert_eq!((&body["id"], &body["public_id"]), (&made["id"], &made["public_id"]));
        assert_eq!(body["created_at"], made["created_at"]);
        assert_eq!(body["revision"], 4);
        // The new name holds in Unstract's routes, the old one no longer.
        let submit = json!({"input_data": 1});
        assert_eq!(call(api, Method::POST, "/deployment/api/acme/renamed/", &target.key, &submit).await.status(), 200);
        refusal(call(api, Method::POST, "/deployment/api/acme/demo/", &target.key, &submit).await, 404, "not_found").await;

        let other = api.deploy_in(ORG, key, "other", echo(), json!({})).await;
        let other = managed(&format!("api-deployment/{}/", other.id));
        let answer = call(api, Method::PATCH, &other, key, &json!({"api_name": "renamed"})).await;
        refusal(answer, 409, "name_taken").await;
        let workflow = managed(&format!("workflow/{}/", made["workflow"].as_str().unwrap()));
        refusal(call(api, Method::DELETE, &workflow, key, &Value::Null).await, 409, "still_in_use").await;
        assert_eq!(call(api, Method::DELETE, &path, key, &Value::Null).await.status(), 204);
        refusal(api.submit(&target, &submit).await, 401, "unauthorized").await;
        refusal(call(api, Method::DELETE, &path, key, &Value::Null).await, 404, "not_found").await;
        assert_eq!(call(api, Method::DELETE, &workflow, key, &Value::Null).await.status(), 204);
        server.stop().await;
    }
}

on_each_database! {
    async fn what_a_patch_changes_holds_for_the_next_request(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let path = managed(&format!("api-deployment/{}/", target.id));
        let patch = async |change: Value| {
            let answer = call(api, Method::PATCH, &path, &target.platform_key, &change).await;
            json_of(answer, 200).await
        };
        let one = json!({"documents": [{"name": "a", "content_base64": "QUFB"}]});
        let input = json!({"input_data": 1});
        patch(json!({"max_file_bytes": 2})).await;
        refusal(api.submit(&target, &one).await, 413, "payload_too_large").await;
        patch(json!({"max_file_bytes": 3})).await;
        assert_eq!(api.submit(&target, &one).await.status(), 202);
        patch(json!({"is_active": false})).await;
        let refused = api.submit(&target, &input).await;
        assert!(refused.headers().contains_key("ratelimit-limit"));
        refusal(refused, 409, "deployment_inactive").await;
        // What was accepted can still be read.
        patch(json!({"is_active": true})).await;
        let id = api.accepted(&target, &input).await;
        patch(json!({"is_active": false})).await;
        assert_eq!(api.ended(&target, &id).await["status"], "COMPLETED");
        patch(json!({"is_active": true, "rate_limit": {"requests": 1, "per_seconds": 3600, "burst": 1}})).await;
        assert_eq!(api.submit(&target, &input).await.status(), 202);
        let limited = api.submit(&target, &input).await;
        assert_eq!(limited.headers()["ratelimit-limit"], "1");
        assert_eq!(limited.headers()["ratelimit-remaining"], "0");
        assert_eq!(limited.headers()["retry-after"], "3600");
        refusal(limited, 429, "rate_limited").await;
        // A new revision of the workflow holds too.
        let workflow = patch(json!({"rate_limit": null})).await["workflow"].as_str().unwrap().to_owned();
        let steps = json!([{"uses": "template", "with": {"template": "new"}}]);
        let path = managed(&format!("workflow/{workflow}/"));
        json_of(call(api, Method::PATCH, &path, &target.platform_key, &json!({"steps": steps})).await, 200).await;
        patch(json!({"rate_limit": {"requests": 1000, "per_seconds": 1, "burst": 1000}})).await;
        let passing = async {
            loop {
                let answer = api.submit(&target, &json!({"input_data": 1, "timeout": 60})).await;
                if answer.status() != 429 {
                    return answer;
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, passing).await.expect("the new rate refills");
        assert_eq!(json_of(answer, 200).await["result"][0]["result"]["output"], "new");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_list_can_be_read_page_by_page_along_its_links(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let list = managed("workflow/");
        for name in ["c", "a", "e", "b", "d"] {
            let write = json!({"name": name, "type": "TASK", "steps": echo()});
            json_of(call(api, Method::POST, &list, &key, &write).await, 201).await;
        }
        let mut path = managed("workflow?page_size=2");
        let mut names = Vec::new();
        let mut last = Value::Null;
        loop {
            let page = json_of(call(api, Method::GET, &path, &key, &Value::Null).await, 200).await;
            assert_eq!(page["count"], 5);
            let rows = page["results"].as_array().unwrap().clone();
            names.extend(rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()));
            let Some(next) = page["next"].as_str() else {
                last = page["previous"].clone();
                break;
            };
            assert!(last.is_null() || page["previous"].is_string());
            path = next.to_owned();
            last = page["previous"].clone();
        }
        assert_eq!(names, ["a", "b", "c", "d", "e"]);
        let before = json_of(call(api, Method::GET, last.as_str().unwrap(), &key, &Value::Null).await, 200).await;
        assert_eq!(before["results"][0]["name"], "c");
        let all = json_of(call(api, Method::GET, &format!("{list}?page_size=1000"), &key, &Value::Null).await, 200).await;
        assert_eq!((&all["next"], &all["previous"]), (&Value::Null, &Value::Null));
        server.stop().await;
    }
}

on_each_database! {
    async fn what_a_deleted_deployment_had_accepted_does_not_hold_up_the_server(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let target = api.deploy_in(ORG, &key, "demo", endless(), json!({"execution_timeout_seconds": 1})).await;
        let id = api.accepted(&target, &json!({"input_data": 1})).await;
        crate::wire::running(api, &target, &id).await;
        let path = managed(&format!("api-deployment/{}/", target.id));
        assert_eq!(call(api, Method::DELETE, &path, &key, &Value::Null).await.status(), 204);
        let accepted = &server.engine.context().accepted;
        let ending = async {
            while accepted.taken() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, ending).await.expect("it ends");
        let status = format!("/deployment/{}/status/{id}/", target.public_id);
        let answer = call(api, Method::GET, &status, &target.key, &Value::Null).await;
        refusal(answer, 401, "unauthorized").await;
        // The name is free again.
        let again = json!({"api_name": "demo", "workflow": "x"});
        let answer = call(api, Method::POST, &managed("api-deployment/"), &key, &again).await;
        assert_eq!(places(&refusal(answer, 400, "invalid_value").await), ["workflow"]);
        server.stop().await;
    }
}
