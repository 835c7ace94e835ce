//! The keys that seal secrets: made, changed, lost.

use std::os::unix::fs::PermissionsExt;

use millrace::app::App;
use millrace_entities::connection;
use reqwest::Method;
use sea_orm::EntityTrait;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::support::{Database, ORG, PATIENCE, SECRETS_KEY, Server, json_of, on_each_database};
use crate::wire::{call, managed, refusal};

const OTHER_KEY: &str = "YW5vdGhlciBrZXkgdGhhdCBzZWFscyBvdGhlcndpc2U=";
const URL: &str = "postgres://u:canary@db.example/d";

fn secrets(key: &str, previous: &str) -> String {
    format!("[secrets]\nkey = \"{key}\"\nprevious_keys = [{previous}]")
}

async fn store_one(server: &Server, name: &str, key: &str) -> u16 {
    let write = json!({"name": name, "kind": "sql", "url": URL});
    call(&server.api, Method::POST, &managed("connection/"), key, &write).await.status().as_u16()
}

/// The secret of a connection as steps would see it.
fn opened(server: &Server, name: &str) -> Option<String> {
    let found = server.engine.context().services.connections.get(ORG, name)?;
    match found.as_ref() {
        millrace::connections::Connection::Sql { url } => Some(url.expose_secret().to_owned()),
        _ => None,
    }
}

async fn rows(server: &Server) -> Vec<connection::Model> {
    let read = server
        .engine
        .store()
        .read(|db| async move { Ok(connection::Entity::find().all(&db).await?) });
    read.await.unwrap()
}

/// Why a server does not start.
async fn start_error(database: &Database, changes: &str) -> String {
    let config = database.config(changes);
    let starting = move || {
        let system = actix_web::rt::System::new();
        system.block_on(async { App::start(config).await.err().map(|error| error.to_string()) })
    };
    tokio::task::spawn_blocking(starting).await.unwrap().expect("it does not start")
}

on_each_database! {
    async fn a_new_key_seals_anew_what_a_previous_one_sealed_and_a_wrong_one_does_not_start(database) {
        let server = Server::start(&database).await;
        let key = server.api.organisation(ORG).await;
        assert_eq!(store_one(&server, "a", &key).await, 201);
        let before = rows(&server).await;
        server.stop().await;

        let error = start_error(&database, &secrets(OTHER_KEY, "")).await;
        assert!(error.starts_with("1 stored connections cannot be opened: set `secrets.key`"), "{error}");
        assert!(!error.contains("canary"));

        let rotated = secrets(OTHER_KEY, &format!("\"{SECRETS_KEY}\""));
        let server = Server::start_with(&database, &rotated).await;
        assert_eq!(opened(&server, "a").as_deref(), Some(URL));
        let sealed_anew = async {
            while rows(&server).await[0].sealed == before[0].sealed {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, sealed_anew).await.expect("it is sealed anew");
        assert_eq!(rows(&server).await[0].revision, 1);
        server.stop().await;

        let server = Server::start_with(&database, &secrets(OTHER_KEY, "")).await;
        assert_eq!(opened(&server, "a").as_deref(), Some(URL));
        server.stop().await;
    }
}

on_each_database! {
    async fn a_sealed_secret_moved_to_another_row_does_not_open(database) {
        let server = Server::start(&database).await;
        let key = server.api.organisation(ORG).await;
        for name in ["a", "b"] {
            assert_eq!(store_one(&server, name, &key).await, 201);
        }
        let rows = rows(&server).await;
        assert!(server.engine.store().reseal(rows[0].clone(), rows[1].sealed.clone()).await.unwrap());
        server.stop().await;
        let error = start_error(&database, "").await;
        assert!(error.starts_with("1 stored connections cannot be opened"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_sqlite_a_key_file_is_made_for_the_owner_alone_and_is_missed_when_it_is_lost() {
    let database = Database::sqlite();
    let file = database.path("keys/secrets.key");
    let changes = format!("[secrets]\nkey = \"\"\nkey_file = \"{file}\"");
    let server = Server::start_with(&database, &changes).await;
    let key = server.api.organisation(ORG).await;
    assert_eq!(store_one(&server, "a", &key).await, 201);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    server.stop().await;
    let server = Server::start_with(&database, &changes).await;
    assert_eq!(opened(&server, "a").as_deref(), Some(URL));
    server.stop().await;
    std::fs::remove_file(&file).unwrap();
    let error = start_error(&database, &changes).await;
    assert!(error.contains("restore secrets.key_file"), "{error}");
    assert!(!std::path::Path::new(&file).exists(), "no key is made that opens nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_postgres_no_key_is_made_and_servers_with_one_key_see_each_others_changes() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: keys with Postgres need Postgres");
        return;
    };
    let keyless = format!("[secrets]\nkey = \"\"\nkey_file = \"{}\"", database.path("no.key"));
    let server = Server::start_with(&database, &keyless).await;
    let key = server.api.organisation(ORG).await;
    let connections = managed("connection/");
    let write = json!({"name": "a", "kind": "sql", "url": URL});
    refusal(
        call(&server.api, Method::POST, &connections, &key, &write).await,
        409,
        "no_secrets_key",
    )
    .await;
    let write = json!({"name": "m", "kind": "llm", "provider": "openai", "model": "m"});
    json_of(call(&server.api, Method::POST, &connections, &key, &write).await, 201).await;
    server.stop().await;

    let first = Server::start(&database).await;
    let second = Server::start(&database).await;
    assert_eq!(store_one(&first, "a", &key).await, 201);
    let seen = async {
        while opened(&second, "a").as_deref() != Some(URL) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.expect("the other server sees it");
    first.stop().await;
    second.stop().await;
}
