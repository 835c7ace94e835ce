//! The whole life of an execution, as its caller sees it.

use serde_json::json;

use crate::support::{Server, json_of, on_each_database};

on_each_database! {
    async fn what_is_submitted_runs_and_its_result_can_be_read_again_and_again(database) {
        let server = Server::start(&database).await;
        let steps = json!([{"uses": "template", "with": {"template": "Hello {{ input.name }}"}}]);
        let target = server.api.deploy(steps).await;
        let id = server.api.accepted(&target, &json!({"input_data": {"name": "Ada"}})).await;
        let status = server.api.ended(&target, &id).await;
        assert_eq!(status["status"], "COMPLETED");
        for _ in 0..2 {
            let result = server.api.result(&target, &id).await;
            assert_eq!(result[0]["result"]["output"], "Hello Ada");
        }
        server.stop().await;
    }
}

on_each_database! {
    async fn an_execution_ends_and_can_be_read_after_a_restart(database) {
        let server = Server::start(&database).await;
        let target = server.api.deploy(json!([{"uses": "jq", "with": {"filter": ".a + 1"}}])).await;
        let body = json!({"input_data": {"a": 1}, "timeout": 60});
        let answer = json_of(server.api.submit(&target, &body).await, 200).await;
        assert_eq!(answer["result"][0]["result"]["output"], 2);
        server.stop().await;
        let server = Server::start(&database).await;
        let id = answer["execution_id"].as_str().unwrap();
        let result = server.api.result(&target, id).await;
        assert_eq!(result, answer["result"]);
        server.stop().await;
    }
}
