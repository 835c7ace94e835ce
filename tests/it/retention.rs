//! What has had its time is removed, and nothing else.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use millrace::documents::Hash;
use millrace::engine::sweeper::Swept;
use millrace_entities::{document_ref, execution, step_run, usage_counter};
use millrace_migration::{Migrator, MigratorTrait};
use reqwest::Response;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, DatabaseConnection, EntityTrait, IntoActiveModel,
    PaginatorTrait, QueryFilter,
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};

/// Outputs and results of any size go to the document store.
const NOTHING_INLINE: &str = "[engine]\ninline_bytes = 0";

fn echo() -> Value {
    json!([{"uses": "extract_text"}])
}

async fn deploy(api: &Api) -> Target {
    let key = api.organisation(ORG).await;
    api.deploy_in(ORG, &key, "demo", echo(), json!({"result_ttl_seconds": 60})).await
}

fn submission(texts: &[&str]) -> Value {
    // "hello" and the like, in base64 of their own.
    let document = |(index, text): (usize, &&str)| {
        use base64::Engine;
        let content = base64::engine::general_purpose::STANDARD.encode(text);
        json!({"name": format!("{index}.txt"), "content_base64": content})
    };
    let documents: Vec<_> = texts.iter().enumerate().map(document).collect();
    json!({"documents": documents, "timeout": 60})
}

/// Submits documents and waits for the end; returns the execution's id.
async fn ended(api: &Api, target: &Target, texts: &[&str]) -> String {
    let body = json_of(api.submit(target, &submission(texts)).await, 200).await;
    body["execution_id"].as_str().unwrap().to_owned()
}

async fn ask(api: &Api, target: &Target, route: &str, id: &str) -> Response {
    let path = format!("/deployment/{}/{route}/{id}/", target.public_id);
    api.get(&path, &target.key).send().await.unwrap()
}

async fn ask_unstract(api: &Api, target: &Target, id: &str) -> Response {
    let path = format!("/deployment/api/{ORG}/{}/?execution_id={id}", target.api_name);
    api.get(&path, &target.key).send().await.unwrap()
}

async fn connect(database: &Database) -> DatabaseConnection {
    sea_orm::Database::connect(&database.url).await.unwrap()
}

/// Lets the time of executions run out.
async fn expire(db: &DatabaseConnection, ids: &[&str]) {
    let ids = ids.iter().map(|id| id.parse::<Uuid>().unwrap());
    let past = chrono::Utc::now() - chrono::TimeDelta::days(1);
    let expired = execution::Entity::update_many()
        .col_expr(execution::Column::ExpiresAt, Expr::value(past))
        .filter(execution::Column::Id.is_in(ids))
        .exec(db)
        .await
        .unwrap();
    assert!(expired.rows_affected > 0);
}

/// The files under a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let path = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path();
    let of = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.map(path).flat_map(of).collect()
}

fn stored(database: &Database) -> Vec<PathBuf> {
    files(Path::new(&database.path("documents")))
}

fn file_of(database: &Database, text: &str) -> PathBuf {
    let hash = Hash::from(blake3::hash(text.as_bytes())).to_string();
    let path = format!("documents/documents/{}/{}/{hash}", &hash[..2], &hash[2..4]);
    PathBuf::from(database.path(&path))
}

/// Makes files older than any grace.
fn age(paths: &[PathBuf]) {
    for path in paths {
        let old = SystemTime::now() - Duration::from_secs(30 * 86_400);
        File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
}

on_each_database! {
    async fn an_expired_result_is_gone_on_both_families_and_its_bytes_with_the_last_reference(database) {
        let server = Server::start_with(&database, NOTHING_INLINE).await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = deploy(api).await;
        let first = ended(api, &target, &["shared", "own"]).await;
        let second = ended(api, &target, &["shared"]).await;
        age(&stored(&database));
        assert_eq!(server.engine.sweep_once().await.unwrap(), Swept::default());

        expire(&db, &[&first]).await;
        let swept = server.engine.sweep_once().await.unwrap();
        // One document, its output, and the result, which names both.
        assert_eq!((swept.expired, swept.documents), (1, 3));
        assert!(!file_of(&database, "own").exists());
        assert!(file_of(&database, "shared").exists());
        for _ in 0..2 {
            json_of(ask(api, &target, "result", &first).await, 410).await;
            json_of(ask_unstract(api, &target, &first).await, 410).await;
            let status = json_of(ask(api, &target, "status", &first).await, 200).await;
            assert_eq!((&status["status"], &status["documents"]["total"]), (&json!("COMPLETED"), &json!(2)));
        }
        let kept = json_of(ask(api, &target, "result", &second).await, 200).await;
        assert_eq!(kept["result"][0]["result"]["output"]["text"], "shared");
        let row = execution::Entity::find_by_id(first.parse::<Uuid>().unwrap()).one(&db).await;
        let row = row.unwrap().unwrap();
        assert_eq!((row.request.as_str(), row.documents.as_str()), ("{}", "[]"));
        assert_eq!((row.result, row.result_hash), (None, None));
        let steps = step_run::Entity::find().filter(step_run::Column::ExecutionId.eq(row.id));
        assert_eq!(steps.count(&db).await.unwrap(), 0);

        expire(&db, &[&second]).await;
        let swept = server.engine.sweep_once().await.unwrap();
        assert_eq!((swept.expired, swept.documents), (1, 3));
        assert_eq!(stored(&database), Vec::<PathBuf>::new());
        assert_eq!(document_ref::Entity::find().count(&db).await.unwrap(), 0);
        server.stop().await;
    }
}

on_each_database! {
    async fn batches_are_bounded_and_an_expired_execution_is_forgotten_in_the_end(database) {
        let server = Server::start_with(&database, "[retention]\nbatch = 3").await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = deploy(api).await;
        let mut ids = Vec::new();
        for _ in 0..7 {
            ids.push(ended(api, &target, &["a"]).await);
        }
        let kept = ids.pop().unwrap();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        expire(&db, &ids[..5]).await;
        for expected in [3, 2, 0] {
            assert_eq!(server.engine.sweep_once().await.unwrap().expired, expected);
        }
        json_of(ask(api, &target, "result", ids[0]).await, 410).await;
        // Longer ago than tombstones are kept.
        let long_ago = execution::Entity::update_many()
            .col_expr(execution::Column::ExpiresAt, Expr::value(chrono::DateTime::UNIX_EPOCH))
            .filter(execution::Column::Id.is_in(ids[..4].iter().map(|id| id.parse::<Uuid>().unwrap())));
        long_ago.exec(&db).await.unwrap();
        for expected in [3, 1, 0] {
            assert_eq!(server.engine.sweep_once().await.unwrap().tombstones, expected);
        }
        for (id, status) in [(ids[0], 404), (ids[4], 410), (ids[5], 200), (&kept, 200)] {
            json_of(ask(api, &target, "result", id).await, status).await;
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn what_nothing_refers_to_is_swept_after_the_grace_and_nothing_else(database) {
        let server = Server::start(&database).await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = deploy(api).await;
        let id = ended(api, &target, &["kept"]).await;
        // A refused submission leaves its documents behind.
        let mut refused = submission(&["refused"]);
        refused["timeout"] = json!(1000);
        json_of(api.submit(&target, &refused).await, 400).await;
        let part = PathBuf::from(database.path("documents/uploads/part"));
        std::fs::write(&part, "half").unwrap();
        assert_eq!(server.engine.sweep_once().await.unwrap(), Swept::default(), "all is young");
        age(&stored(&database));
        // A sweep that was cut off left a document aside that is referred to.
        let kept = file_of(&database, "kept");
        let aside = PathBuf::from(database.path("documents/aside"));
        std::fs::create_dir_all(&aside).unwrap();
        std::fs::rename(&kept, aside.join(kept.file_name().unwrap())).unwrap();
        // The pass after the end of one walk begins the next.
        let mut swept = server.engine.sweep_once().await.unwrap();
        if swept == Swept::default() {
            swept = server.engine.sweep_once().await.unwrap();
        }
        assert_eq!((swept.documents, swept.uploads, swept.expired), (1, 1, 0));
        assert_eq!(stored(&database), [kept]);
        json_of(ask(api, &target, "result", &id).await, 200).await;
        assert_eq!(document_ref::Entity::find().count(&db).await.unwrap(), 1);
        server.stop().await;
    }
}

on_each_database! {
    /// Old bytes lose their last reference while the same bytes come again.
    async fn what_comes_again_during_a_sweep_is_never_lost(database) {
        let server = Server::start_with(&database, NOTHING_INLINE).await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = deploy(api).await;
        let mut last = vec![ended(api, &target, &["again"]).await];
        let (mut removed, mut kept) = (0, 0);
        for _ in 0..25 {
            expire(&db, &last.iter().map(String::as_str).collect::<Vec<_>>()).await;
            age(&stored(&database));
            let sweeps = async {
                let mut documents = 0;
                for _ in 0..3 {
                    documents += server.engine.sweep_once().await.unwrap().documents;
                }
                documents
            };
            let coming = join_all((0..3).map(|_| ended(api, &target, &["again"])));
            let (documents, ids) = tokio::join!(sweeps, coming);
            removed += documents;
            for id in &ids {
                let body = json_of(ask(api, &target, "result", id).await, 200).await;
                assert_eq!(body["result"][0]["result"]["output"]["text"], "again");
            }
            kept += usize::from(file_of(&database, "again").exists());
            last = ids;
        }
        // Every round removes at least the results of the round before.
        assert!(removed >= 25, "{removed}");
        assert_eq!(kept, 25);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_read_beside_a_sweep_gets_the_whole_result_or_is_told_that_it_has_expired(database) {
        let server = Server::start_with(&database, NOTHING_INLINE).await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = deploy(api).await;
        for _ in 0..10 {
            let id = ended(api, &target, &["read"]).await;
            age(&stored(&database));
            let sweep = async {
                expire(&db, &[&id]).await;
                server.engine.sweep_once().await.unwrap()
            };
            let reads = join_all((0..12).map(|turn| {
                let (api, target, id) = (api, &target, &id);
                async move {
                    let answer = if turn % 2 == 0 {
                        ask(api, target, "result", id).await
                    } else {
                        ask_unstract(api, target, id).await
                    };
                    if answer.status() == 200 {
                        let body = json_of(answer, 200).await;
                        let files = if turn % 2 == 0 { &body["result"] } else { &body["message"] };
                        assert_eq!(files[0]["result"]["output"]["text"], "read", "{body}");
                    } else {
                        json_of(answer, 410).await;
                    }
                }
            }));
            let (swept, _) = tokio::join!(sweep, reads);
            assert_eq!(swept.expired, 1);
            json_of(ask(api, &target, "result", &id).await, 410).await;
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn old_counters_and_what_is_left_of_deleted_deployments_are_removed(database) {
        let server = Server::start_with(&database, "[retention]\nbatch = 4").await;
        let (api, db) = (&server.api, connect(&database).await);
        let target = deploy(api).await;
        let deployment_id = target.id.parse::<Uuid>().unwrap();
        let day = 86_400;
        let now = chrono::Utc::now().timestamp();
        let rows = |of: Uuid| [(60, 3), (60, 1), (3600, 61), (3600, 59), (86_400, 61), (86_400, 59)]
            .map(|(span, days)| usage_counter::Model {
                deployment_id: of, span, start: now - days * day, key_id: Uuid::nil(),
                name: "bytes".into(), value: 1,
            }.into_active_model());
        let deleted = Uuid::from_u128(1);
        usage_counter::Entity::insert_many(rows(deployment_id)).exec(&db).await.unwrap();
        usage_counter::Entity::insert_many(rows(deleted)).exec(&db).await.unwrap();
        let mut removed = 0;
        for _ in 0..4 {
            removed += server.engine.sweep_once().await.unwrap().counters;
        }
        assert_eq!(removed, 5);
        let left = async |of: Uuid| {
            let rows = usage_counter::Entity::find()
                .filter(usage_counter::Column::DeploymentId.eq(of)).all(&db).await.unwrap();
            let mut left: Vec<_> =
                rows.iter().map(|row| (row.span, (now - row.start) / day)).collect();
            left.sort_unstable();
            left
        };
        assert_eq!(left(deployment_id).await, [(60, 1), (3600, 59), (86_400, 59), (86_400, 61)]);
        assert_eq!(left(deleted).await, [(60, 1), (3600, 59), (86_400, 59)]);

        let id = ended(api, &target, &["a"]).await;
        let path = format!("/unstract/{ORG}/api/v2/api-deployment/{}/", target.id);
        let delete = api.client.delete(format!("{}{path}", api.url)).bearer_auth(&target.platform_key);
        assert_eq!(delete.send().await.unwrap().status(), 204);
        assert_eq!(server.engine.sweep_once().await.unwrap().revisions, 0, "it has an execution");
        expire(&db, &[&id]).await;
        let long_ago = execution::Entity::update_many()
            .col_expr(execution::Column::ExpiresAt, Expr::value(chrono::DateTime::UNIX_EPOCH));
        long_ago.exec(&db).await.unwrap();
        let swept = server.engine.sweep_once().await.unwrap();
        assert_eq!((swept.expired, swept.tombstones, swept.revisions), (1, 1, 1));
        server.stop().await;
    }
}

on_each_database! {
    async fn references_of_what_was_there_before_are_found_by_the_migration(database) {
        let url = if database.url.starts_with("sqlite") {
            format!("{}?mode=rwc", database.url)
        } else {
            database.url.clone()
        };
        let db = sea_orm::Database::connect(url).await.unwrap();
        let names: Vec<_> =
            Migrator::migrations().iter().map(|one| one.name().to_owned()).collect();
        let before = names.iter().position(|name| name.ends_with("_retention")).unwrap();
        Migrator::up(&db, Some(before.try_into().unwrap())).await.unwrap();
        let row = crate::committer::row(Uuid::now_v7());
        let documents = json!([{"hash": "a".repeat(64)}, {"hash": "b".repeat(64)}, {"hash": "a".repeat(64)}]);
        let with_documents = execution::Model {
            documents: documents.to_string(), documents_total: 3,
            result_hash: Some("c".repeat(64)), ..row.clone()
        };
        let without = execution::Model { id: Uuid::now_v7(), ..row.clone() };
        for row in [with_documents, without] {
            let mut row = row.into_active_model();
            // Columns that came later.
            let later = [
                execution::Column::RerunOf,
                execution::Column::RerunFrom,
                execution::Column::Gathered,
            ];
            for column in later {
                row.not_set(column);
            }
            execution::Entity::insert(row).exec(&db).await.unwrap();
        }
        Migrator::up(&db, None).await.unwrap();
        let mut found: Vec<_> = document_ref::Entity::find().all(&db).await.unwrap()
            .into_iter().map(|one| (one.execution_id, one.hash)).collect();
        found.sort();
        assert_eq!(found, ["a", "b", "c"].map(|digit| (row.id, digit.repeat(64))));
    }
}
