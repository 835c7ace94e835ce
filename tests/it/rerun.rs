//! Executions that ended and are run again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use millrace_entities::{document_ref, execution, step_run};
use reqwest::{Method, Response};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::event_stream::{assert_increasing, briefs, documents, follow};
use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{call, cancel, echo, endless, header, managed, places, refusal, running};

async fn read(api: &Api, target: &Target, path: &str) -> Value {
    json_of(api.get(&managed(path), &target.platform_key).send().await.unwrap(), 200).await
}

async fn rerun(api: &Api, target: &Target, id: &str, body: &Value) -> Response {
    let path = managed(&format!("execution/{id}/rerun/"));
    call(api, Method::POST, &path, &target.platform_key, body).await
}

/// Runs it again, and returns the new execution's id.
async fn rerun_of(api: &Api, target: &Target, id: &str, body: &Value) -> String {
    let made = json_of(rerun(api, target, id, body).await, 202).await;
    assert_eq!(made["rerun_of"], id);
    made["execution_id"].as_str().unwrap().to_owned()
}

/// Changes the steps of the deployment's workflow.
async fn change_steps(api: &Api, target: &Target, steps: Value) {
    let deployment = read(api, target, &format!("api-deployment/{}/", target.id)).await;
    let workflow = managed(&format!("workflow/{}/", deployment["workflow"].as_str().unwrap()));
    let change = json!({"steps": steps});
    let changed = call(api, Method::PATCH, &workflow, &target.platform_key, &change).await;
    assert_eq!(changed.status(), 200);
}

async fn submitted(api: &Api, target: &Target, body: &Value) -> String {
    let id = api.accepted(target, body).await;
    api.ended(target, &id).await;
    id
}

on_each_database! {
    async fn a_rerun_is_a_new_execution_of_the_same_submission_on_the_current_revision(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let name = |suffix: &str| json!([{"uses": "jq", "input": "/document",
            "with": {"filter": format!(".name + \"{suffix}\"")}}]);
        let target = api.deploy(name(" then")).await;
        let mut body = documents(&["a", "b"]);
        body["tags"] = json!(["march"]);
        let id = submitted(api, &target, &body).await;
        let before = api.result(&target, &id).await;
        change_steps(api, &target, name(" now")).await;

        let answer = rerun(api, &target, &id, &json!({})).await;
        let place = header(&answer, "location").to_owned();
        let made = json_of(answer, 202).await;
        let again = made["execution_id"].as_str().unwrap();
        assert_ne!(again, id);
        assert_eq!((&made["rerun_of"], &made["tags"], &made["revision"]), (&json!(id), &json!(["march"]), &json!(2)));
        assert_eq!(made["links"]["self"], *place);
        assert!(place.ends_with(&managed(&format!("execution/{again}/"))), "{place}");
        assert_eq!(made["key_id"], Value::Null, "no key of the deployment asked for it");
        assert_eq!(api.ended(&target, again).await["status"], "COMPLETED");
        let after = api.result(&target, again).await;
        for (index, name) in ["a", "b"].iter().enumerate() {
            assert_eq!(before[index]["result"]["output"], format!("{name} then"));
            assert_eq!(after[index]["result"]["output"], format!("{name} now"));
            assert_ne!(before[index]["file_execution_id"], after[index]["file_execution_id"]);
            assert_eq!(before[index]["metadata"]["source_hash"], after[index]["metadata"]["source_hash"]);
        }
        assert_eq!(api.result(&target, &id).await, before);
        assert_eq!(read(api, &target, &format!("execution/{id}/")).await["rerun_of"], Value::Null);
        let found = read(api, &target, &format!("execution/?rerun_of={id}")).await;
        assert_eq!((&found["count"], &found["results"][0]["execution_id"]), (&json!(1), &json!(again)));
        let trail = read(api, &target, "audit/?resource=execution").await;
        assert_eq!(trail["count"], 1);
        let entry = &trail["results"][0];
        assert_eq!((&entry["action"], &entry["resource_id"]), (&json!("rerun"), &json!(again)));
        server.stop().await;
    }
}

/// Counts the steps that run.
fn counted() -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&count);
    fail::cfg_callback("step-run", move || {
        counting.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    count
}

/// Name, then load; documents named `bad…` fail before.
fn name_and_load(bad: &str) -> Value {
    let filter = format!("if .name | startswith(\"{bad}\") then error(\"no\") else [{{name}}] end");
    json!([
        {"id": "name", "uses": "jq", "input": "/document", "with": {"filter": filter}},
        {"id": "load", "uses": "load_sql", "retry": {"attempts": 1},
         "with": {"connection": "later", "table": "names", "create_table": true}},
    ])
}

async fn connect(database: &Database) -> sea_orm::DatabaseConnection {
    sea_orm::Database::connect(&database.url).await.unwrap()
}

async fn expire(database: &Database, id: &str) {
    let past = chrono::Utc::now() - chrono::TimeDelta::days(1);
    let db = connect(database).await;
    let expired = execution::Entity::update_many()
        .col_expr(execution::Column::ExpiresAt, Expr::value(past))
        .filter(execution::Column::Id.eq(id.parse::<Uuid>().unwrap()))
        .exec(&db);
    assert_eq!(expired.await.unwrap().rows_affected, 1);
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let of = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.map(|entry| entry.unwrap().path()).flat_map(of).collect()
}

on_each_database! {
    async fn from_a_step_on_what_is_recorded_before_it_is_taken_over_with_its_bytes(database) {
        let folder = database.path("later");
        let changes = format!(
            "[engine]\ninline_bytes = 0\n[[connections]]\norg_id = \"{ORG}\"\nname = \"later\"\n\
             kind = \"sql\"\nurl = \"sqlite://{folder}/x.db?mode=rwc\""
        );
        let server = Server::start_with(&database, &changes).await;
        let api = &server.api;
        let target = api.deploy(name_and_load("bad")).await;
        let id = submitted(api, &target, &documents(&["a", "bad", "c"])).await;
        std::fs::create_dir(&folder).unwrap();
        let runs = counted();
        let again = rerun_of(api, &target, &id, &json!({"from_step": "load"})).await;
        assert_eq!(api.ended(&target, &again).await["documents"], json!({"total": 3, "done": 3, "failed": 1}));
        assert_eq!(runs.load(Ordering::SeqCst), 3, "two loads, and the step that had failed");
        fail::remove("step-run");

        let steps_of = async |id: &str| {
            let steps = read(api, &target, &format!("execution/{id}/steps/?include_output=true")).await;
            steps["results"].as_array().unwrap().clone()
        };
        let (before, after) = (steps_of(&id).await, steps_of(&again).await);
        let told: Vec<_> = after.iter().map(|step| {
            format!("{} {} {}", step["file"].as_str().unwrap(), step["step"].as_str().unwrap(), step["attempt"])
        }).collect();
        assert_eq!(told, ["a name 0", "a load 1", "bad name 1", "c name 0", "c load 1"]);
        for field in ["output_hash", "started_at", "ended_at"] {
            assert_eq!(before[0][field], after[0][field], "{field}");
        }
        // What was taken over did not happen in this execution.
        let events = follow(api, &target, &again, None).await.rest().await;
        assert_increasing(&events);
        let of_a: Vec<_> = briefs(&events).into_iter().filter(|brief| brief.starts_with("a ")).collect();
        assert_eq!(of_a, ["a started", "a load started", "a load completed", "a completed"]);

        // The original's end as content is not the end of what the other took over.
        expire(&database, &id).await;
        for file in files(Path::new(&database.path("documents"))) {
            let old = SystemTime::now() - Duration::from_secs(30 * 86_400);
            File::options().write(true).open(file).unwrap().set_modified(old).unwrap();
        }
        assert_eq!(server.engine.sweep_once().await.unwrap().expired, 1);
        let db = connect(&database).await;
        let of_again = again.parse::<Uuid>().unwrap();
        let references = document_ref::Entity::find()
            .filter(document_ref::Column::ExecutionId.eq(of_again)).all(&db).await.unwrap();
        let rows = step_run::Entity::find()
            .filter(step_run::Column::ExecutionId.eq(of_again)).all(&db).await.unwrap();
        let hashes: Vec<_> = rows.into_iter().filter_map(|row| row.output_hash).collect();
        assert_eq!(hashes.len(), 4);
        let kept: Vec<_> = files(Path::new(&database.path("documents"))).iter()
            .map(|file| file.file_name().unwrap().to_str().unwrap().to_owned()).collect();
        for hash in hashes {
            assert!(references.iter().any(|reference| reference.hash == hash), "{hash}");
            assert!(kept.contains(&hash), "{hash} in {kept:?}");
        }
        refusal(rerun(api, &target, &id, &json!({})).await, 410, "result_expired").await;
        // Once more, from what was taken over; and the same after a restart.
        let third = rerun_of(api, &target, &again, &json!({"from_step": "load"})).await;
        assert_eq!(api.ended(&target, &third).await["status"], "COMPLETED");
        server.stop().await;
        let server = Server::start_with(&database, &changes).await;
        assert_eq!(follow(&server.api, &target, &again, None).await.rest().await, events);
        server.stop().await;
    }
}

on_each_database! {
    async fn a_rerun_from_a_step_needs_the_same_steps_before_it(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let steps = |first: &str, third: &str| json!([
            {"id": "one", "uses": "jq", "with": {"filter": first}},
            {"id": "two", "uses": "jq", "with": {"filter": ". + 1"}},
            {"id": "three", "uses": "jq", "with": {"filter": third}},
        ]);
        let target = api.deploy(steps(".", ".")).await;
        let id = submitted(api, &target, &json!({"input_data": 1})).await;
        let from = |step: &str| json!({"from_step": step});
        let unknown = refusal(rerun(api, &target, &id, &from("four")).await, 400, "invalid_value").await;
        assert_eq!(places(&unknown), ["from_step"]);
        assert!(unknown["errors"][0]["detail"].as_str().unwrap().contains("one, two, three"));
        for (body, place) in [(json!({"from_step": 1}), "from_step"), (json!({"step": "one"}), "step")] {
            assert_eq!(places(&json_of(rerun(api, &target, &id, &body).await, 400).await), [place]);
        }
        // A later step may differ, and when an earlier one is tried again.
        let mut changed = steps(".", ". * 10");
        changed[0]["retry"] = json!({"attempts": 2});
        change_steps(api, &target, changed).await;
        let again = rerun_of(api, &target, &id, &from("three")).await;
        api.ended(&target, &again).await;
        assert_eq!(api.result(&target, &again).await[0]["result"]["output"], 20);
        // What ran before must not.
        change_steps(api, &target, steps(". + 100", ".")).await;
        for step in ["two", "three"] {
            refusal(rerun(api, &target, &id, &from(step)).await, 409, "steps_changed").await;
        }
        let again = rerun_of(api, &target, &id, &from("one")).await;
        api.ended(&target, &again).await;
        assert_eq!(api.result(&target, &again).await[0]["result"]["output"], 102);
        server.stop().await;
    }
}

on_each_database! {
    async fn what_cannot_be_run_again_is_refused_and_leaves_nothing(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let settings = json!({"max_concurrency": 1, "max_queued": 0,
            "rate_limit": {"requests": 1, "per_seconds": 86_400, "burst": 2}});
        let target = api.deploy_in(ORG, &key, "demo", echo(), settings).await;
        let id = submitted(api, &target, &json!({"input_data": 1})).await;
        let none = json!({});
        // No permit is left after this one, and none is needed.
        change_steps(api, &target, endless()).await;
        let busy = api.accepted(&target, &json!({"input_data": 1})).await;
        running(api, &target, &busy).await;
        refusal(rerun(api, &target, &busy, &none).await, 409, "not_ended").await;
        let full = rerun(api, &target, &id, &none).await;
        assert_eq!(header(&full, "retry-after"), "1");
        refusal(full, 429, "queue_full").await;
        cancel(api, &target, &busy).await;
        api.ended(&target, &busy).await;
        change_steps(api, &target, echo()).await;
        let again = rerun_of(api, &target, &busy, &none).await;
        assert_eq!(api.ended(&target, &again).await["status"], "COMPLETED");

        let deployment = managed(&format!("api-deployment/{}/", target.id));
        let off = json!({"is_active": false});
        assert_eq!(call(api, Method::PATCH, &deployment, &key, &off).await.status(), 200);
        refusal(rerun(api, &target, &id, &none).await, 409, "deployment_inactive").await;
        assert_eq!(call(api, Method::DELETE, &deployment, &key, &Value::Null).await.status(), 204);
        refusal(rerun(api, &target, &id, &none).await, 409, "deployment_deleted").await;
        assert_eq!(server.engine.context().accepted.taken(), 0);
        assert_eq!(read(api, &target, "execution/").await["count"], 3);
        assert_eq!(read(api, &target, "audit/?action=rerun").await["count"], 1);
        server.stop().await;
    }
}
