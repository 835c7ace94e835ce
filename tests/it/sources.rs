//! Deployments that get their documents by themselves.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{call, managed, places, refusal};

/// Makes a workflow of type ETL and its deployment, both named `name`.
pub async fn deploy(api: &Api, key: &str, name: &str, steps: Value, settings: Value) -> Target {
    let workflow = json!({"name": name, "type": "ETL", "steps": steps});
    let made = call(api, Method::POST, &managed("workflow/"), key, &workflow).await;
    let workflow = json_of(made, 201).await["id"].clone();
    let mut deployment = json!({"api_name": name, "workflow": workflow});
    deployment.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
    let made = call(api, Method::POST, &managed("api-deployment/"), key, &deployment).await;
    let made = json_of(made, 201).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Target {
        platform_key: key.to_owned(),
        id: text("id"),
        public_id: text("public_id"),
        api_name: text("api_name"),
        key: text("api_key"),
    }
}

on_each_database! {
    async fn a_source_is_for_etl_and_its_connection_is_there_and_stays(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let steps = json!([{"uses": "jq", "with": {"filter": "."}}]);
        let task = api.deploy_in(ORG, &key, "task", steps.clone(), json!({})).await;
        let change = async |target: &Target, source: Value| {
            let path = managed(&format!("api-deployment/{}/", target.id));
            call(api, Method::PATCH, &path, &key, &json!({"source": source})).await
        };
        let refused = refusal(change(&task, json!({"connection": "archive"})).await, 400, "invalid_value").await;
        assert_eq!(places(&refused), ["source"]);
        let etl = deploy(api, &key, "etl", steps, json!({})).await;
        for (source, place) in [
            (json!({"connection": "nothing"}), "source.connection"),
            (json!({"connection": "warehouse"}), "source.connection"),
            (json!({"connection": "archive", "prefix": "../in"}), "source.prefix"),
            (json!({"connection": "archive", "include": ["["]}), "source.include[0]"),
            (json!({"connection": "archive", "what": 1}), "source.what"),
            (json!("archive"), "source"),
        ] {
            let refused = refusal(change(&etl, source.clone()).await, 400, "invalid_value").await;
            assert_eq!(places(&refused), [place], "{source}");
        }
        let folder = database.path("own");
        let local = format!("connections_api = {{ local_folders = [{folder:?}] }}");
        server.stop().await;

        let server = Server::start_with(&database, &local).await;
        let api = &server.api;
        let own = json!({"name": "own", "kind": "object_store", "service": "fs",
            "options": {"root": format!("{folder}/{ORG}/in")}});
        let made = call(api, Method::POST, &managed("connection/"), &key, &own).await;
        let own = json_of(made, 201).await["id"].as_str().unwrap().to_owned();
        let path = managed(&format!("api-deployment/{}/", etl.id));
        let body = json!({"source": {"connection": "own", "prefix": "/inbox"}});
        let changed = json_of(call(api, Method::PATCH, &path, &key, &body).await, 200).await;
        assert_eq!(changed["source"], json!({"connection": "own", "prefix": "/inbox", "include": ["**"],
            "exclude": [], "order": "name", "max_files": 500, "max_bytes": 1 << 30, "changed_only": true}));
        let connection = managed(&format!("connection/{own}/"));
        let deleted = call(api, Method::DELETE, &connection, &key, &Value::Null).await;
        refusal(deleted, 409, "still_in_use").await;
        let body = json!({"source": null});
        let changed = json_of(call(api, Method::PATCH, &path, &key, &body).await, 200).await;
        assert_eq!(changed["source"], Value::Null);
        let deleted = call(api, Method::DELETE, &connection, &key, &Value::Null).await;
        assert_eq!(deleted.status(), 204);
        server.stop().await;
    }
}
