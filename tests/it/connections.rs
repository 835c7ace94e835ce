//! Connections that organisations store: taken, used by steps, never read
//! back.

use millrace_entities::{audit_entry, connection};
use reqwest::{Method, Response};
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::support::{Api, Database, ORG, Process, Server, json_of, on_each_database};
use crate::wire::{call, header, managed, names, places, refusal};

/// In every secret of these tests.
const CANARY: &str = "canary-5e0b";

/// Lets an organisation's connections lead into the test's own folder.
fn with_local_folder(database: &Database) -> String {
    let folder = database.folder.path().display();
    std::fs::create_dir_all(database.folder.path().join(ORG)).unwrap();
    format!("[connections_api]\nlocal_folders = [\"{folder}\"]")
}

fn sqlite(database: &Database, file: &str) -> String {
    format!("sqlite://{}?mode=rwc", database.path(&format!("{ORG}/{file}")))
}

fn all_kinds() -> [Value; 4] {
    [
        json!({"name": "lake", "kind": "object_store", "service": "gcs",
            "options": {"bucket": "b", "token": format!("{CANARY}-o")}}),
        json!({"name": "model", "kind": "llm", "provider": "openai", "model": "m-1",
            "api_key": format!("{CANARY}-l"), "description": "d"}),
        json!({"name": "partner", "kind": "http", "base_url": "https://partner.example/v1",
            "headers": {"Authorization": format!("Bearer {CANARY}-h")}}),
        json!({"name": "store", "kind": "sql",
            "url": format!("postgres://loader:{CANARY}-s@db.example:5433/dwh?sslmode=require")}),
    ]
}

/// Makes connections; returns their ids and all that was answered.
async fn make(api: &Api, key: &str, written: &[Value]) -> (Vec<String>, String) {
    let (mut ids, mut answers) = (Vec::new(), String::new());
    for write in written {
        let answer = call(api, Method::POST, &managed("connection/"), key, write).await;
        let made = json_of(answer, 201).await;
        answers.push_str(&made.to_string());
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    (ids, answers)
}

fn one(id: &str) -> String {
    managed(&format!("connection/{id}/"))
}

async fn get(api: &Api, key: &str, path: &str) -> Value {
    json_of(call(api, Method::GET, path, key, &Value::Null).await, 200).await
}

async fn patch(api: &Api, key: &str, id: &str, write: Value) -> Response {
    call(api, Method::PATCH, &one(id), key, &write).await
}

on_each_database! {
    async fn a_connection_of_each_kind_is_made_changed_and_deleted_and_its_secrets_are_never_shown(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let (ids, mut shown) = make(api, &key, &all_kinds()).await;
        let read = get(api, &key, &one(&ids[3])).await;
        assert_eq!(
            (&read["kind"], &read["location"], &read["secrets"], &read["source"], &read["revision"]),
            (&json!("sql"), &json!("postgres://db.example:5433/dwh"), &json!(["url"]), &json!("api"), &json!(1))
        );
        assert!(read.get("url").is_none());
        let lake = get(api, &key, &one(&ids[0])).await;
        assert_eq!((&lake["options"], &lake["secrets"]), (&json!({"bucket": "b"}), &json!(["options.token"])));

        // Those that the configuration declares come first, then those that are stored.
        let list = get(api, &key, &managed("connection/")).await;
        let rows = list["results"].as_array().unwrap();
        let listed: Vec<_> = rows.iter().map(|row| (row["name"].as_str().unwrap(), row["source"].as_str().unwrap())).collect();
        assert_eq!(list["count"], 6);
        assert_eq!(listed, [("archive", "config"), ("warehouse", "config"), ("lake", "api"), ("model", "api"), ("partner", "api"), ("store", "api")]);
        let mut paged = Vec::new();
        for page in 1..=3 {
            let page = get(api, &key, &managed(&format!("connection/?page_size=2&page={page}"))).await;
            paged.extend(page["results"].as_array().unwrap().clone());
        }
        assert_eq!(&paged, rows);
        shown.push_str(&list.to_string());

        // What a patch leaves out stays, secrets too; a replacement gives them again.
        let answer = patch(api, &key, &ids[1], json!({"model": "m-2", "description": null})).await;
        assert_eq!(header(&answer, "etag"), "\"2\"");
        let changed = json_of(answer, 200).await;
        assert_eq!((&changed["model"], &changed["secrets"], &changed["description"]), (&json!("m-2"), &json!(["api_key"]), &json!("")));
        let answer = patch(api, &key, &ids[2], json!({"headers": {"X-Key": CANARY, "Authorization": null}})).await;
        let changed = json_of(answer, 200).await;
        assert_eq!(changed["secrets"], json!(["headers.X-Key"]));
        shown.push_str(&changed.to_string());
        let write = json!({"name": "store", "kind": "sql"});
        let answer = call(api, Method::PUT, &one(&ids[3]), &key, &write).await;
        assert_eq!(places(&refusal(answer, 400, "invalid_value").await), ["url"]);
        let write = json!({"name": "store-2", "kind": "sql", "url": format!("postgres://x:{CANARY}@h2/d2")});
        let stale = api.client.put(format!("{}{}", api.url, one(&ids[3]))).bearer_auth(&key).header("if-match", "\"7\"");
        refusal(stale.json(&write).send().await.unwrap(), 409, "changed").await;
        let changed = json_of(call(api, Method::PUT, &one(&ids[3]), &key, &write).await, 200).await;
        assert_eq!((&changed["location"], &changed["name"], &changed["revision"]), (&json!("postgres://h2/d2"), &json!("store-2"), &json!(2)));
        assert_eq!(changed["created_at"], read["created_at"]);
        shown.push_str(&changed.to_string());

        for id in &ids {
            assert_eq!(call(api, Method::DELETE, &one(id), &key, &Value::Null).await.status(), 204);
            refusal(call(api, Method::GET, &one(id), &key, &Value::Null).await, 404, "not_found").await;
        }
        assert!(!shown.contains(CANARY), "{shown}");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_fault_names_its_place_and_no_value_and_what_is_declared_cannot_be_changed(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let connections = managed("connection/");
        for (write, place) in [
            (json!({"kind": "sql", "url": "postgres://h/d"}), "name"),
            (json!({"name": "a b", "kind": "sql", "url": "postgres://h/d"}), "name"),
            (json!({"name": "x".repeat(65), "kind": "sql", "url": "postgres://h/d"}), "name"),
            (json!({"name": "a", "url": "postgres://h/d"}), "kind"),
            (json!({"name": "a", "kind": CANARY}), "kind"),
            (json!({"name": "a", "kind": "sql"}), "url"),
            (json!({"name": "a", "kind": "sql", "url": CANARY}), "url"),
            (json!({"name": "a", "kind": "sql", "url": [CANARY]}), "url"),
            (json!({"name": "a", "kind": "sql", "url": "postgres://h/d", "password": CANARY}), "password"),
            (json!({"name": "a", "kind": "sql", "url": format!("sqlite://{}", database.path("warehouse.db"))}), "url"),
            (json!({"name": "a", "kind": "sql", "url": "postgres:///d?host=/var/run/postgresql"}), "url"),
            (json!({"name": "a", "kind": "object_store", "service": "fs", "options": {"root": "/"}}), "options.root"),
            (json!({"name": "a", "kind": "object_store", "service": CANARY}), "service"),
            (json!({"name": "a", "kind": "object_store", "service": "sftp", "options": {"endpoint": CANARY}}), "service"),
            (json!({"name": "a", "kind": "object_store", "service": "s3", "options": {"bucket": CANARY, "region": CANARY}}), "options"),
            (json!({"name": "a", "kind": "http", "base_url": format!("https://u:{CANARY}@h")}), "base_url"),
            (json!({"name": "a", "kind": "http", "base_url": "https://h", "headers": {"A": 1}}), "headers.A"),
            (json!({"name": "a", "kind": "llm", "provider": "openai"}), "model"),
            (json!({"name": "a", "kind": "llm", "provider": CANARY, "model": "m"}), "provider"),
            (json!({"name": "a", "kind": "llm", "provider": "azure", "model": "m"}), "base_url"),
            (json!({"name": "a", "kind": "llm", "provider": "openai", "model": "m", "input_price": -1}), "input_price"),
            (json!({"name": "a", "kind": "llm", "provider": "openai", "model": "m", "max_output_tokens": 0}), "max_output_tokens"),
            (json!({"name": "a", "kind": "llm", "provider": "openai", "model": "m", "source": "api"}), "source"),
        ] {
            let body = refusal(call(api, Method::POST, &connections, &key, &write).await, 400, "invalid_value").await;
            assert_eq!(places(&body), [place], "{write}");
            assert!(!body.to_string().contains(CANARY), "{body}");
        }
        let write = &all_kinds()[1];
        let (ids, _) = make(api, &key, std::slice::from_ref(write)).await;
        for name in ["model", "warehouse"] {
            let mut write = write.clone();
            write["name"] = json!(name);
            refusal(call(api, Method::POST, &connections, &key, &write).await, 409, "name_taken").await;
        }
        refusal(patch(api, &key, &ids[0], json!({"name": "archive"})).await, 409, "name_taken").await;
        let body = refusal(patch(api, &key, &ids[0], json!({"kind": "http"})).await, 400, "invalid_value").await;
        assert_eq!(places(&body).len(), 1, "{body}");

        let list = get(api, &key, &connections).await;
        let declared = &list["results"][0];
        let id = declared["id"].as_str().unwrap();
        assert_eq!(&get(api, &key, &one(id)).await, declared);
        assert_eq!((&declared["secrets"], &declared["revision"]), (&json!([]), &Value::Null));
        assert!(!list.to_string().contains(database.folder.path().to_str().unwrap()), "{list}");
        for (method, body) in [(Method::PUT, write.clone()), (Method::PATCH, json!({})), (Method::DELETE, Value::Null)] {
            refusal(call(api, method, &one(id), &key, &body).await, 409, "declared_in_configuration").await;
        }
        server.stop().await;
    }
}

fn loading(connection: &str) -> Value {
    json!([{"uses": "load_sql", "with": {"connection": connection, "table": "t"}}])
}

on_each_database! {
    async fn a_change_holds_for_the_next_step_and_what_workflows_name_cannot_go(database) {
        let server = Server::start_with(&database, &with_local_folder(&database)).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let target = api.deploy_in(ORG, &key, "demo", loading("sink"), json!({})).await;
        let run = async || {
            let id = api.accepted(&target, &json!({"input_data": {"a": 1}})).await;
            let ended = api.ended(&target, &id).await;
            (ended["status"].as_str().unwrap().to_owned(), ended["error"]["code"].clone())
        };
        // A workflow may name a connection that is to come; to validate it says so.
        assert_eq!(run().await, ("ERROR".to_owned(), json!("connection_unknown")));
        let deployment = get(api, &key, &managed(&format!("api-deployment/{}/", target.id))).await;
        let validate = managed(&format!("workflow/{}/validate/", deployment["workflow"].as_str().unwrap()));
        let body = refusal(call(api, Method::POST, &validate, &key, &Value::Null).await, 400, "invalid_workflow").await;
        assert_eq!(places(&body), ["steps[0].with.connection"]);

        let write = json!({"name": "sink", "kind": "sql", "url": sqlite(&database, "first.db")});
        let (ids, _) = make(api, &key, &[write]).await;
        assert_eq!(call(api, Method::POST, &validate, &key, &Value::Null).await.status(), 200);
        assert_eq!(run().await.0, "COMPLETED");
        let second = json!({"url": sqlite(&database, "second.db")});
        assert_eq!(patch(api, &key, &ids[0], second).await.status(), 200);
        assert!(!database.folder.path().join(format!("{ORG}/second.db")).exists());
        assert_eq!(run().await.0, "COMPLETED");
        assert!(database.folder.path().join(format!("{ORG}/second.db")).exists());

        let elsewhere = json!({"url": format!("sqlite://{}", database.path("millrace.db"))});
        let body = refusal(patch(api, &key, &ids[0], elsewhere).await, 400, "invalid_value").await;
        assert_eq!(places(&body), ["url"]);
        refusal(patch(api, &key, &ids[0], json!({"name": "other"})).await, 409, "still_in_use").await;
        let delete = async || call(api, Method::DELETE, &one(&ids[0]), &key, &Value::Null).await;
        refusal(delete().await, 409, "still_in_use").await;
        let workflow = managed(&format!("workflow/{}/", deployment["workflow"].as_str().unwrap()));
        // Another connection's name that contains this one's is not this one's.
        let answer = call(api, Method::PATCH, &workflow, &key, &json!({"steps": loading("sink-2")})).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(delete().await.status(), 204);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_connection_is_tried_and_what_fails_is_told_without_its_address(database) {
        let server = Server::start_with(&database, &with_local_folder(&database)).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let folder = database.path(&format!("{ORG}/objects"));
        let (ids, _) = make(api, &key, &[
            json!({"name": "file", "kind": "sql", "url": sqlite(&database, "x.db")}),
            json!({"name": "absent", "kind": "sql", "url": sqlite(&database, "x.db").replace("rwc", "ro").replace("x.db", "no.db")}),
            json!({"name": "folder", "kind": "object_store", "service": "fs", "options": {"root": folder}}),
            json!({"name": "away", "kind": "sql", "url": format!("postgres://u:{CANARY}@127.0.0.1:1/d")}),
            json!({"name": "model", "kind": "llm", "provider": "openai", "model": "m"}),
        ]).await;
        for (id, status) in ids.iter().zip(["ok", "failed", "ok", "failed", "untried"]) {
            let path = managed(&format!("connection/{id}/test/"));
            let tried = json_of(call(api, Method::POST, &path, &key, &Value::Null).await, 200).await;
            assert_eq!(tried["status"], status, "{tried}");
            assert_eq!(names(&tried), ["status", "detail"]);
            assert_eq!(tried["detail"].is_string(), status == "failed");
            assert!(!tried.to_string().contains("127.0.0.1") && !tried.to_string().contains(CANARY), "{tried}");
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn each_change_leaves_an_entry_that_names_fields_and_holds_no_value(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let (ids, _) = make(api, &key, &all_kinds()[3..]).await;
        let url = format!("postgres://loader:{CANARY}-2@db.example:5433/dwh?sslmode=require");
        patch(api, &key, &ids[0], json!({"url": url, "description": "x"})).await;
        patch(api, &key, &ids[0], json!({"url": CANARY})).await;
        call(api, Method::DELETE, &one(&ids[0]), &key, &Value::Null).await;
        let entries = server
            .engine
            .store()
            .read(|db| async move { Ok(audit_entry::Entity::find().all(&db).await?) })
            .await
            .unwrap();
        let told: Vec<_> = entries[1..].iter().map(|entry| (entry.action.as_str(), entry.changed.as_str())).collect();
        assert_eq!(told, [("create", "[]"), ("change", r#"["description","url"]"#), ("delete", "[]")]);
        assert!(entries[1..].iter().all(|entry| entry.resource == "connection" && entry.resource_name.as_deref() == Some("store")));
        assert!(!format!("{entries:?}").contains(CANARY));
        server.stop().await;
    }
}

/// Every file below a folder that contains the text.
fn files_with(folder: &std::path::Path, text: &str) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(files_with(&entry.path(), text));
        } else if std::fs::read(entry.path())
            .unwrap()
            .windows(text.len())
            .any(|part| part == text.as_bytes())
        {
            found.push(entry.path());
        }
    }
    found
}

on_each_database! {
    async fn no_secret_is_in_the_database_or_in_the_log(database) {
        let log = database.folder.path().join("log");
        let process = Process::start_logging(&database, "trace,hyper=info,mio=info", &log).await;
        let api = &process.api;
        let key = api.organisation(ORG).await;
        let (ids, _) = make(api, &key, &all_kinds()).await;
        for id in &ids {
            patch(api, &key, id, json!({"description": "changed"})).await;
            call(api, Method::POST, &managed(&format!("connection/{id}/test/")), &key, &Value::Null).await;
        }
        patch(api, &key, &ids[3], json!({"url": format!("postgres://u:{CANARY}@127.0.0.1:1/d?{CANARY}={CANARY}")})).await;
        patch(api, &key, &ids[3], json!({"url": format!("postgres://u:{CANARY}@127.0.0.1:1/d")})).await;
        call(api, Method::POST, &managed(&format!("connection/{}/test/", ids[3])), &key, &Value::Null).await;
        for write in [json!({"name": "a", "kind": "sql", "url": CANARY}), json!({"kind": CANARY, "url": [CANARY]})] {
            call(api, Method::POST, &managed("connection/"), &key, &write).await;
        }
        assert!(process.terminate());
        assert!(std::fs::read_to_string(&log).unwrap().lines().count() > 20);
        assert_eq!(files_with(database.folder.path(), CANARY), Vec::<std::path::PathBuf>::new());
        let server = Server::start(&database).await;
        let rows = server
            .engine
            .store()
            .read(|db| async move { Ok(connection::Entity::find().all(&db).await?) })
            .await
            .unwrap();
        assert_eq!(rows.len(), 4);
        assert!(!format!("{rows:?}").contains(CANARY), "{rows:?}");
        assert!(rows.iter().all(|row| row.sealed.len() > 60));
        server.stop().await;
    }
}
