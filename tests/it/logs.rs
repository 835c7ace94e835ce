//! What the log never holds.

use reqwest::Method;
use serde_json::json;

use crate::support::{OPERATOR, ORG, Process, json_of, on_each_database};
use crate::wire::{document, echo, managed};

on_each_database! {
    async fn whole_lives_of_executions_leave_no_key_and_no_content_in_the_log(database) {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let level = "trace,sqlx=info,hyper=info,mio=info";
        let process = Process::start_logging(&database, level, &log).await;
        let api = &process.api;
        let key = api.organisation(ORG).await;
        let secret = "confidential-7f3a";
        let fail = format!("if .text == null then . elif (.text | test(\"{secret}\")) then error(.text) else . end");
        let steps = json!([{"uses": "extract_text"}, {"uses": "jq", "with": {"filter": fail}}]);
        let target = api.deploy_in(ORG, &key, "demo", steps, json!({"max_files": 2})).await;
        let other = api.deploy_in(ORG, &key, "other", echo(), json!({})).await;
        for body in [
            json!({"documents": [document("confidential-7f3a.txt", secret)], "timeout": 60}),
            json!({"documents": [document("x.pdf", &format!("%PDF-1.7 {secret}"))], "timeout": 60}),
            json!({"input_data": secret, "parameters": {"p": secret}, "timeout": 60}),
            json!({"input_data": secret, "timeout": secret}),
            json!({"input": secret}),
            json!({"documents": [{"name": secret, "content_base64": secret}]}),
        ] {
            api.submit(&target, &body).await;
            api.submit(&other, &body).await;
            let in_path = format!("/deployment/{}/", other.key);
            api.post(&in_path, &other.key).json(&body).send().await.unwrap();
            let form = reqwest::multipart::Form::new().text("input_data", body.to_string()).text("timeout", "60");
            api.post(&in_path, &other.key).multipart(form).send().await.unwrap();
        }
        let wrong = format!("{}x", target.key);
        for path in [format!("/deployment/{}/", target.key), format!("/{secret}"), format!("/deployment/{wrong}/status/x?wait={secret}")] {
            api.get(&path, &other.key).send().await.unwrap();
            api.get(&path, &wrong).header("x-request-id", secret.repeat(20)).send().await.unwrap();
        }
        let keys = managed(&format!("api-deployment/{}/key/", target.id));
        let made = api.post(&keys, &key).json(&json!({})).send().await.unwrap();
        let fresh = json_of(made, 201).await["api_key"].as_str().unwrap().to_owned();
        let delete = managed(&format!("api-deployment/{}/", target.id));
        api.client.request(Method::DELETE, format!("{}{delete}", api.url)).bearer_auth(&key).send().await.unwrap();
        assert!(process.terminate());
        let log = std::fs::read_to_string(log).unwrap();
        assert!(log.lines().count() > 20, "the log is there:\n{log}");
        let unkeyed = |key: &str| key[6..40].to_owned();
        for (what, text) in [
            ("content", secret.to_owned()),
            ("content in base64", "Y29uZmlkZW50aWFs".to_owned()),
            ("a deployment key", unkeyed(&target.key)),
            ("a deployment key", unkeyed(&other.key)),
            ("a new key", unkeyed(&fresh)),
            ("the platform key", unkeyed(&key)),
            ("the operator token", OPERATOR.to_owned()),
        ] {
            let line = log.lines().find(|line| line.contains(&text));
            assert!(line.is_none(), "{what} is in the log: {}", line.unwrap_or_default());
        }
    }
}
