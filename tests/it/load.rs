//! Many callers at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::{Server, on_each_database};

const SUBMISSIONS: usize = 1000;
const CONNECTIONS: usize = 64;

on_each_database! {
    async fn load_of_a_thousand_submissions_from_64_connections_loses_none(database) {
        let server = Server::start(&database).await;
        let steps = json!([
            {"id": "greet", "uses": "template", "with": {"template": "Hello {{ input.n }}"}},
            {"uses": "validate", "with": {"schema": {"type": "string"}}},
        ]);
        let target = Arc::new(server.api.deploy(steps).await);
        let next = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..CONNECTIONS).map(|_| {
            let (api, target, next) = (server.api.clone(), Arc::clone(&target), Arc::clone(&next));
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= SUBMISSIONS {
                        return done;
                    }
                    let id = api.accepted(&target, &json!({"input_data": {"n": n}})).await;
                    assert_eq!(api.ended(&target, &id).await["status"], "COMPLETED");
                    let result = api.result(&target, &id).await;
                    assert_eq!(result[0]["result"]["output"], format!("Hello {n}"));
                    done += 1;
                }
            })
        }).collect();
        let mut done = 0;
        for caller in callers {
            done += caller.await.unwrap();
        }
        assert_eq!(done, SUBMISSIONS);
        server.stop().await;
    }
}
