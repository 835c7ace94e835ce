//! What a caller can rely on: the forms of answers, their headers, and the
//! life of an execution as it is told.

use millrace_entities::execution;
use reqwest::Response;
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde_json::{Value, json};

use crate::support::{Api, Database, ORG, PATIENCE, Server, Target, json_of, on_each_database};
use crate::wire::{cancel, document, echo, endless, header, names, places, refusal, running};

const RATE: [&str; 3] = ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"];

async fn get(api: &Api, target: &Target, path: &str) -> Response {
    api.get(path, &target.key).send().await.unwrap()
}

fn result_path(target: &Target, id: &str) -> String {
    format!("/deployment/{}/result/{id}/", target.public_id)
}

fn unstract_path(target: &Target) -> String {
    format!("/deployment/api/{ORG}/{}/", target.api_name)
}

async fn unstract_status(api: &Api, target: &Target, id: &str) -> Response {
    get(api, target, &format!("{}?execution_id={id}", unstract_path(target))).await
}

on_each_database! {
    async fn a_submission_is_answered_with_exactly_the_promised_fields(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let answer = api.submit(&target, &json!({"input_data": 1})).await;
        assert!(RATE.iter().all(|name| !header(&answer, name).is_empty()));
        assert_eq!(header(&answer, "retry-after"), "1");
        let location = header(&answer, "location").to_owned();
        let body = json_of(answer, 202).await;
        let id = body["execution_id"].as_str().unwrap().to_owned();
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 7);
        let base = format!("/deployment/{}", target.public_id);
        let status_api = format!("/deployment/api/acme/demo/?execution_id={id}");
        assert_eq!(body, json!({
            "execution_id": id, "status": "PENDING", "status_url": format!("{base}/status/{id}/"),
            "result_url": format!("{base}/result/{id}/"), "expires_at": null,
            "message": {"execution_id": id, "execution_status": "PENDING",
                "status_api": status_api, "error": null, "result": null},
        }));
        assert_eq!(location, body["status_url"]);
        let status = api.ended(&target, &id).await;
        assert_eq!(names(&status), ["execution_id", "status", "documents", "steps", "created_at",
            "started_at", "ended_at", "expires_at", "error", "links"]);
        assert_eq!(status["documents"], json!({"total": 1, "done": 1, "failed": 0}));
        for link in ["self", "result"] {
            let answer = get(api, &target, status["links"][link].as_str().unwrap()).await;
            assert_eq!(answer.status(), 200, "{link}");
        }
        let result = json_of(get(api, &target, &result_path(&target, &id)).await, 200).await;
        assert_eq!(names(&result), ["execution_id", "status", "result", "expires_at"]);
        let unstract = json_of(get(api, &target, &status_api).await, 200).await;
        assert_eq!(unstract, json!({"status": "COMPLETED", "message": result["result"]}));
        server.stop().await;
    }
}

on_each_database! {
    async fn who_waits_within_the_submission_gets_the_result(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let body = json!({"input_data": {"a": [1]}, "timeout": 60, "include_metrics": true, "tags": ["t"]});
        let answer = api.submit(&target, &body).await;
        assert!(!header(&answer, "location").is_empty());
        assert!(RATE.iter().all(|name| !header(&answer, name).is_empty()));
        let body = json_of(answer, 200).await;
        assert_eq!(body["status"], "COMPLETED");
        assert_eq!(body["message"]["result"], body["result"]);
        let file = &body["result"][0];
        assert_eq!(names(file), ["file", "file_execution_id", "status", "result", "error", "metadata"]);
        assert_eq!(names(&file["result"]), ["output", "metrics"]);
        assert_eq!((&file["status"], &file["error"]), (&json!("Success"), &Value::Null));
        assert_eq!(file["result"]["output"], json!({"a": [1]}));
        let metadata = &file["metadata"];
        for name in ["source_name", "source_hash", "execution_id", "workflow_id", "organization_id", "tags", "total_elapsed_time"] {
            assert!(metadata.get(name).is_some(), "{name} in {metadata}");
        }
        assert_eq!(metadata["execution_id"], body["execution_id"]);

        // Unstract's form: 200 when stored, and when it ended in time.
        for timeout in [0, 60] {
            let body = json!({"input_data": 1, "timeout": timeout});
            let answer = api.post(&unstract_path(&target), &target.key).json(&body).send().await.unwrap();
            assert!(RATE.iter().all(|name| !header(&answer, name).is_empty()));
            let message = json_of(answer, 200).await["message"].clone();
            let status = if timeout == 0 { "PENDING" } else { "COMPLETED" };
            assert_eq!(message["execution_status"], status);
            assert_eq!(message["result"].is_array(), timeout > 0);
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn an_execution_that_failed_says_why_wherever_it_is_asked_for(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(json!([{"uses": "jq", "with": {"filter": "error(\"no luck\")"}}])).await;
        let body = json!({"input_data": 1, "timeout": 60});
        let answer = api.submit(&target, &body).await;
        let location = header(&answer, "location").to_owned();
        assert!(RATE.iter().all(|name| !header(&answer, name).is_empty()));
        refusal(answer, 422, "execution_failed").await;
        let status = json_of(get(api, &target, &location).await, 200).await;
        assert_eq!(status["status"], "ERROR");
        assert_eq!(names(&status["error"]), ["code", "detail"]);
        let id = status["execution_id"].as_str().unwrap();
        let refused = refusal(get(api, &target, &result_path(&target, id)).await, 422, "execution_failed").await;
        assert!(!places(&refused).is_empty() || refused["errors"][0]["attr"].is_null());
        let unstract = json_of(unstract_status(api, &target, id).await, 422).await;
        assert_eq!(unstract["status"], "ERROR");
        assert!(unstract["message"].is_string());
        let answer = api.post(&unstract_path(&target), &target.key).json(&body).send().await.unwrap();
        let message = json_of(answer, 422).await["message"].clone();
        assert_eq!(message["execution_status"], "ERROR");
        assert!(message["error"].is_string());
        refusal(cancel(api, &target, id).await, 409, "already_ended").await;
        server.stop().await;
    }
}

on_each_database! {
    async fn some_documents_may_fail_and_all_failed_is_an_error(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let steps = json!([{"uses": "extract_text"},
            {"uses": "jq", "with": {"filter": "if .text | test(\"bad\") then error(\"bad\") else .text end"}}]);
        let target = api.deploy(steps).await;
        let (good, bad) = (document("good.txt", "good"), document("bad.txt", "bad"));
        let body = json!({"documents": [good, bad], "timeout": 60, "include_extracted_text": true});
        let body = json_of(api.submit(&target, &body).await, 200).await;
        assert_eq!(body["status"], "COMPLETED");
        let files = body["result"].as_array().unwrap();
        let statuses: Vec<_> = files.iter().map(|file| file["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["Success", "Failed"]);
        assert_eq!(files[0]["extracted_text"].as_str().unwrap().trim(), "good");
        assert!(files[0]["error"].is_null() && files[1]["error"].is_string());
        let id = body["execution_id"].as_str().unwrap();
        let status = api.ended(&target, id).await;
        assert_eq!(status["documents"], json!({"total": 2, "done": 2, "failed": 1}));

        let body = json!({"documents": [bad, bad], "timeout": 60});
        let refused = refusal(api.submit(&target, &body).await, 422, "execution_failed").await;
        assert_eq!(places(&refused), ["documents[0]", "documents[1]"]);
        server.stop().await;
    }
}

on_each_database! {
    async fn while_it_runs_its_result_is_not_there_and_its_status_can_be_waited_for(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let target = api.deploy_in(ORG, &key, "demo", endless(), json!({"max_concurrency": 1, "max_queued": 1})).await;
        let body = json!({"input_data": 1});
        let first = api.accepted(&target, &body).await;
        running(api, &target, &first).await;
        let second = api.accepted(&target, &body).await;

        let full = api.submit(&target, &body).await;
        assert!(RATE.iter().all(|name| !header(&full, name).is_empty()));
        assert_eq!(header(&full, "retry-after"), "1");
        refusal(full, 429, "queue_full").await;

        let answer = get(api, &target, &result_path(&target, &first)).await;
        assert_eq!(header(&answer, "retry-after"), "1");
        let pending = json_of(answer, 202).await;
        assert_eq!(names(&pending), ["execution_id", "status", "expires_at"]);
        let answer = unstract_status(api, &target, &second).await;
        assert_eq!(header(&answer, "retry-after"), "1");
        assert_eq!(json_of(answer, 202).await, json!({"status": "PENDING", "message": "PENDING"}));

        // A wait ends when the status changes.
        let path = format!("/deployment/{}/status/{second}/?wait=55", target.public_id);
        let waiting = async { json_of(get(api, &target, &path).await, 200).await };
        let stopping = async { cancel(api, &target, &second).await.status() };
        let (status, stopped) = tokio::join!(waiting, stopping);
        assert_eq!(stopped, 202);
        assert_eq!(status["status"], "STOPPED");
        let zero = get(api, &target, &format!("/deployment/{}/status/{first}/?wait=0", target.public_id)).await;
        assert_eq!(json_of(zero, 200).await["status"], "EXECUTING");

        assert_eq!(cancel(api, &target, &first).await.status(), 202);
        api.ended(&target, &first).await;
        assert_eq!(cancel(api, &target, &first).await.status(), 202, "asking again is the same");
        refusal(get(api, &target, &result_path(&target, &first)).await, 409, "execution_stopped").await;
        let unstract = json_of(unstract_status(api, &target, &first).await, 422).await;
        assert_eq!(unstract["status"], "STOPPED");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_result_is_gone_once_its_time_is_over(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let target = api.deploy_in(ORG, &key, "demo", echo(), json!({"result_ttl_seconds": 60})).await;
        let body = json!({"input_data": 1, "timeout": 60});
        let body = json_of(api.submit(&target, &body).await, 200).await;
        let expires = body["expires_at"].as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(expires).unwrap() > chrono::Utc::now());
        let id = body["execution_id"].as_str().unwrap();
        assert_eq!(get(api, &target, &result_path(&target, id)).await.status(), 200);

        let past = chrono::DateTime::UNIX_EPOCH;
        let db = sea_orm::Database::connect(&database.url).await.unwrap();
        let row = execution::ActiveModel { expires_at: Set(Some(past)), ..Default::default() };
        let update = execution::Entity::update_many().set(row);
        assert_eq!(update.exec(&db).await.unwrap().rows_affected, 1);
        refusal(get(api, &target, &result_path(&target, id)).await, 410, "result_expired").await;
        refusal(unstract_status(api, &target, id).await, 410, "result_expired").await;
        assert_eq!(api.ended(&target, id).await["expires_at"], "1970-01-01T00:00:00.000000Z");
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_of_a_submit_route_tells_the_rate_and_who_waits_as_told_passes() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let key = api.organisation(ORG).await;
    let rate = json!({"rate_limit": {"requests": 3, "per_seconds": 1, "burst": 3}});
    let target = api.deploy_in(ORG, &key, "demo", echo(), rate).await;
    for path in [format!("/deployment/{}/", target.public_id), unstract_path(&target)] {
        let mut limited = 0;
        // Refused submissions count too.
        for body in ["{\"input_data\": 1}", "{", "", "{}"].into_iter().cycle().take(40) {
            let request = api.post(&path, &target.key).header("content-type", "application/json");
            let answer = request.body(body).send().await.unwrap();
            for name in RATE {
                let value: u64 = header(&answer, name).parse().unwrap();
                assert!(value <= 3, "{name}: {value}");
            }
            if answer.status() == 429 {
                limited += 1;
                assert_eq!(header(&answer, "retry-after"), "1");
                assert_eq!(header(&answer, "ratelimit-remaining"), "0");
                refusal(answer, 429, "rate_limited").await;
            }
        }
        assert!(limited > 0);
        let passing = async {
            let body = json!({"input_data": 1});
            while api.post(&path, &target.key).json(&body).send().await.unwrap().status() == 429 {}
        };
        tokio::time::timeout(PATIENCE, passing).await.expect("permits come back");
    }
    // Another deployment is not touched by it.
    let other = api.deploy_in(ORG, &key, "other", echo(), json!({})).await;
    assert_eq!(api.submit(&other, &json!({"input_data": 1})).await.status(), 202);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_begin_with_the_public_address_where_one_is_set_and_never_hold_a_key() {
    let database = Database::sqlite();
    let changes = "[server]\npublic_url = \"https://docs.example.com/mill/\"";
    let server = Server::start_with(&database, changes).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let path = format!("/deployment/{}/", target.key);
    let answer = api.post(&path, &target.key).json(&json!({"input_data": 1})).send().await.unwrap();
    let start = format!("https://docs.example.com/mill/deployment/{}/status/", target.public_id);
    assert!(header(&answer, "location").starts_with(&start));
    let text = json_of(answer, 202).await.to_string();
    assert!(!text.contains(&target.key), "{text}");
    server.stop().await;
}
