//! Deployment files: what they own, when they are read, what does no harm.

use std::path::Path;
use std::process::Command;

use millrace_entities::audit_entry;
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use sea_orm::EntityTrait;
use serde_json::{Value, json};

use crate::reload::{
    answer_of, asked, deployment, folder, output, reload, reloaded, target, versioned, write,
};
use crate::support::{
    Api, Database, ORG, PATIENCE, Process, Server, Target, json_of, on_each_database,
};
use crate::wire::{call, cancel, managed, places, refusal, running};

/// The file that docs/deployments.md shows.
fn documented() -> &'static str {
    let page = include_str!("../../docs/deployments.md");
    let marker = "<!-- tested: deployments/invoices.toml -->\n```toml\n";
    page.split_once(marker).unwrap().1.split_once("```").unwrap().0
}

/// The faults of a reload that changes nothing.
async fn faults(api: &Api) -> Value {
    refusal(reload(api, "").await, 400, "invalid_declaration").await
}

/// Waits until the log has this text.
async fn logged(log: &Path, text: &str) {
    let waiting = async {
        while !std::fs::read_to_string(log).unwrap().contains(text) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{text} is logged"));
}

/// Calls a deployment until it answers this version.
async fn serves(api: &Api, target: &Target, version: &str) {
    let wanted = answer_of(&target.api_name, version);
    let calling = async { while output(api, target).await != wanted {} };
    tokio::time::timeout(PATIENCE, calling).await.expect("it serves the version in time");
}

on_each_database! {
    async fn the_documented_file_is_a_deployment_that_only_the_file_changes(database) {
        let server = Server::start_with(&database, &asked(&database)).await;
        let api = &server.api;
        write(&database, "invoices.toml", documented());
        assert_eq!(places(&faults(api).await), ["deployments/invoices.toml:2:1"], "no organisation yet");
        let key = api.organisation(ORG).await;
        reloaded(api).await;
        let row = deployment(api, &key, "invoices").await;
        assert_eq!(row["declared_in"], "invoices.toml");
        assert_eq!((row["max_files"].clone(), row["result_ttl_seconds"].clone()), (json!(10), json!(604_800)));
        let target = target(api, &key, "invoices").await;
        let document = Part::bytes(include_bytes!("../../demo/invoice.pdf")).file_name("invoice.pdf");
        let form = Form::new().part("files", document).text("timeout", "60");
        let path = format!("/deployment/{}/", target.public_id);
        let answer = api.post(&path, &target.key).multipart(form).send().await.unwrap();
        let output = json_of(answer, 200).await["result"][0]["result"]["output"].clone();
        assert_eq!(output, json!({"number": "WS-2026-0417", "total": 5572.32}));

        let workflow = managed(&format!("workflow/{}/", row["workflow"].as_str().unwrap()));
        let itself = managed(&format!("api-deployment/{}/", target.id));
        let shown = json_of(api.get(&workflow, &key).send().await.unwrap(), 200).await;
        assert_eq!(shown["declared_in"], "invoices.toml");
        let write = json!({"name": "invoices", "type": "TASK", "steps": shown["steps"]});
        let replace = json!({"api_name": "invoices", "workflow": row["workflow"]});
        for (method, path, body) in [
            (Method::PUT, &workflow, write),
            (Method::PATCH, &workflow, json!({"description": "mine"})),
            (Method::DELETE, &workflow, Value::Null),
            (Method::PUT, &itself, replace),
            (Method::PATCH, &itself, json!({"max_files": 3})),
            (Method::DELETE, &itself, Value::Null),
        ] {
            let answer = call(api, method, path, &key, &body).await;
            let body = refusal(answer, 409, "declared_in_file").await;
            assert!(body["errors"][0]["detail"].as_str().unwrap().contains("`invoices.toml`"));
        }
        assert_eq!(deployment(api, &key, "invoices").await, row);
        server.stop().await;
        let server = Server::start_with(&database, &asked(&database)).await;
        assert_eq!(deployment(&server.api, &key, "invoices").await, row, "a start changes nothing");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_removed_file_switches_off_and_the_same_file_takes_it_back_with_its_keys(database) {
        let server = Server::start_with(&database, &asked(&database)).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        write(&database, "one.toml", &versioned("one", "A"));
        write(&database, "two.toml", &versioned("two", "A"));
        reloaded(api).await;
        let target = target(api, &key, "one").await;
        let file = format!("{}/one.toml", folder(&database));
        std::fs::remove_file(&file).unwrap();
        let difference = reloaded(api).await;
        assert_eq!(difference["removed"][0]["api_name"], "one");
        assert_eq!(difference["unchanged"], 1);
        let refused = api.submit(&target, &json!({"input_data": 1})).await;
        refusal(refused, 409, "deployment_inactive").await;
        let row = deployment(api, &key, "one").await;
        assert_eq!((row["declared_in"].clone(), row["revision"].clone()), (Value::Null, json!(2)));
        let path = managed(&format!("api-deployment/{}/", target.id));
        let taken = call(api, Method::PATCH, &path, &key, &json!({"is_active": true})).await;
        assert_eq!(taken.status(), 200, "it is the API's now");
        assert_eq!(output(api, &target).await, answer_of("one", "A"));
        assert_eq!(reloaded(api).await["unchanged"], 1, "and a reload leaves it alone");

        write(&database, "renamed.toml", &versioned("one", "B"));
        let difference = reloaded(api).await;
        assert_eq!(difference["changed"][0]["file"], "renamed.toml");
        assert_eq!(output(api, &target).await, answer_of("one", "B"));
        std::fs::rename(folder(&database), database.path("elsewhere")).unwrap();
        let told = faults(api).await;
        assert_eq!(places(&told), ["deployments"], "a folder that vanished is a fault");
        assert_eq!(output(api, &target).await, answer_of("one", "B"));
        server.stop().await;
    }
}

on_each_database! {
    async fn files_serve_named_workflows_and_leave_alone_what_the_api_made(database) {
        let server = Server::start_with(&database, &asked(&database)).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let steps = json!([{"uses": "template", "with": {"template": "made by the API"}}]);
        let made = api.deploy_in(ORG, &key, "made", steps, json!({})).await;
        let head = |name: &str| format!("org_id = \"acme\"\napi_name = \"{name}\"\n");
        write(&database, "a.toml", &versioned("made", "A"));
        write(&database, "b.toml", &versioned("other", "A"));
        write(&database, "c.toml", &versioned("other", "B"));
        write(&database, "d.toml", &format!("{}workflow = \"nowhere\"", head("d")));
        write(&database, "e.toml", &format!("{}deployment_type = \"ETL\"\nworkflow = \"made\"", head("e")));
        let told = faults(api).await;
        assert_eq!(places(&told), [
            "deployments/a.toml:2:1", "deployments/a.toml:6:2", "deployments/c.toml:2:1",
            "deployments/c.toml:6:2", "deployments/d.toml:3:1", "deployments/e.toml:3:1",
        ], "{told:#}");
        for name in ["a.toml", "c.toml", "d.toml"] {
            std::fs::remove_file(format!("{}/{name}", folder(&database))).unwrap();
        }
        write(&database, "e.toml", &format!("{}workflow = \"made\"", head("e")));
        write(&database, "f.toml", &format!("{}workflow = \"other\"", head("f")));
        reloaded(api).await;
        let (e, f) = (target(api, &key, "e").await, target(api, &key, "f").await);
        assert_eq!(output(api, &e).await, "made by the API");
        assert_eq!(output(api, &f).await, answer_of("other", "A"));
        let other = deployment(api, &key, "other").await;
        let path = managed(&format!("api-deployment/{}/", made.id));
        let serve = json!({"workflow": other["workflow"]});
        assert_eq!(call(api, Method::PATCH, &path, &key, &serve).await.status(), 200);
        write(&database, "b.toml", &versioned("other", "B"));
        let difference = reloaded(api).await;
        let changed: Vec<_> = difference["changed"].as_array().unwrap().iter()
            .map(|item| (item["api_name"].as_str().unwrap(), &item["file"]))
            .collect();
        assert_eq!(changed, [("other", &json!("b.toml")), ("f", &json!("f.toml")), ("made", &Value::Null)]);
        for target in [&f, &made] {
            assert_eq!(output(api, target).await, answer_of("other", "B"));
        }
        let entries = server.engine.store()
            .read(|db| async move { Ok(audit_entry::Entity::find().all(&db).await?) })
            .await
            .unwrap();
        let last: Vec<_> = entries.iter().rev().take(4)
            .map(|entry| (entry.author_kind.as_str(), entry.action.as_str(), entry.resource.as_str()))
            .collect();
        let deployment = ("operator", "change", "api-deployment");
        assert_eq!(last, [deployment, deployment, deployment, ("operator", "change", "workflow")]);
        server.stop().await;
    }
}

on_each_database! {
    async fn what_is_in_flight_ends_on_the_revision_it_began_with(database) {
        let server = Server::start_with(&database, &asked(&database)).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let file = |version: &str| format!(
            "org_id = \"acme\"\napi_name = \"one\"\nmax_concurrency = 1\n[workflow]\ntype = \"TASK\"\n\
             [[workflow.steps]]\nuses = \"jq\"\n\
             with = {{ filter = 'if .hold then (def f: f; f) else \"{version}\" end', timeout_seconds = 60 }}\n");
        write(&database, "one.toml", &file("A"));
        reloaded(api).await;
        let target = target(api, &key, "one").await;
        let holding = api.accepted(&target, &json!({"input_data": {"hold": true}})).await;
        let waiting = api.accepted(&target, &json!({"input_data": {}})).await;
        running(api, &target, &holding).await;
        write(&database, "one.toml", &file("B"));
        reloaded(api).await;
        let after = api.accepted(&target, &json!({"input_data": {}})).await;
        assert_eq!(cancel(api, &target, &holding).await.status(), 202);
        assert_eq!(api.ended(&target, &waiting).await["status"], "COMPLETED");
        assert_eq!(api.ended(&target, &after).await["status"], "COMPLETED");
        assert_eq!(api.result(&target, &waiting).await[0]["result"]["output"], "A");
        assert_eq!(api.result(&target, &after).await[0]["result"]["output"], "B");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_server_reads_at_sighup_and_at_changes_and_half_a_file_does_no_harm() {
    let database = Database::sqlite();
    let log = database.folder.path().join("log");
    let folder = folder(&database);
    let place = |name: &str| format!("{folder}/{name}");
    write(&database, "one.toml", &versioned("one", "A"));
    let process = Process::start_logging(&database, "info", &log).await;
    let api = &process.api;
    logged(&log, "there is no such organisation").await;
    let ready = api.get("/health/ready", "").send().await.unwrap();
    assert_eq!(ready.status(), 200, "a broken file at the start keeps nobody out");
    let key = api.organisation(ORG).await;
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    logged(&log, "deployment files reloaded").await;
    let target = target(api, &key, "one").await;
    serves(api, &target, "A").await;

    // As editors do: files of their own beside it, then a rename over it.
    for name in [".one.toml.swp", "one.toml~", "#one.toml#", ".#one.toml", "4913"] {
        std::fs::write(place(name), "no TOML at all [").unwrap();
    }
    std::fs::write(place("one.toml.new"), versioned("one", "B")).unwrap();
    std::fs::rename(place("one.toml.new"), place("one.toml")).unwrap();
    serves(api, &target, "B").await;

    let whole = versioned("one", "C");
    write(&database, "one.toml", &whole[..whole.len() - 20]);
    logged(&log, "deployments/one.toml:").await;
    assert_eq!(output(api, &target).await, answer_of("one", "B"));
    write(&database, "one.toml", &whole);
    serves(api, &target, "C").await;

    // Another folder in its place, as a mount or a checkout makes one.
    let (next, former) = (database.path("next"), database.path("former"));
    std::fs::create_dir(&next).unwrap();
    std::fs::write(format!("{next}/one.toml"), versioned("one", "D")).unwrap();
    std::fs::rename(&folder, &former).unwrap();
    std::fs::rename(&next, &folder).unwrap();
    serves(api, &target, "D").await;
    write(&database, "one.toml", &versioned("one", "E"));
    serves(api, &target, "E").await;
    assert!(process.terminate());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_brings_into_force_what_the_first_one_wrote_on_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: a_second_server_brings_into_force needs Postgres");
        return;
    };
    let first = Server::start_with(&database, &asked(&database)).await;
    let key = first.api.organisation(ORG).await;
    write(&database, "one.toml", &versioned("one", "A"));
    reloaded(&first.api).await;
    let target = target(&first.api, &key, "one").await;
    let second = Server::start_with(&database, &asked(&database)).await;
    assert_eq!(output(&second.api, &target).await, answer_of("one", "A"));
    write(&database, "one.toml", &versioned("one", "B"));
    reloaded(&first.api).await;
    let difference = reloaded(&second.api).await;
    assert_eq!(difference["unchanged"], 1, "{difference}");
    assert_eq!(output(&second.api, &target).await, answer_of("one", "B"));
    first.stop().await;
    second.stop().await;
}
