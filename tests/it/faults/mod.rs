//! Fault points: all of them are placed, and an ordinary build has none.

mod frozen;
mod matrix;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::{Arc, Mutex};

use millrace::faults::POINTS;
use serde_json::json;

use crate::support::{PATIENCE, Server, on_each_database};

on_each_database! {
    async fn every_fault_point_is_placed_and_hit(database) {
        let hit: Arc<Mutex<BTreeSet<&str>>> = Arc::default();
        for &point in POINTS {
            let hit = Arc::clone(&hit);
            fail::cfg_callback(point, move || {
                hit.lock().unwrap().insert(point);
            })
            .unwrap();
        }
        let server = Server::start(&database).await;
        let target = server.api.deploy(json!([
            {"uses": "jq", "with": {"filter": "{n: .}"}},
            {"uses": "load_sql", "with": {"connection": "warehouse", "table": "loads"}},
        ]));
        let target = target.await;
        let body = json!({"input_data": 1, "documents": [{"name": "a", "content_base64": "YQ=="}]});
        let id = server.api.accepted(&target, &body).await;
        assert_eq!(server.api.ended(&target, &id).await["status"], "COMPLETED");
        let cancel = format!("/deployment/{}/cancel/{id}/", target.public_id);
        server.api.post(&cancel, &target.key).send().await.unwrap();
        let missing = || -> Vec<&str> {
            let hit = hit.lock().unwrap();
            POINTS.iter().copied().filter(|point| !hit.contains(point)).collect()
        };
        // A round of recovery and a flush of usage come by themselves.
        let coming = async {
            while missing().iter().any(|point| !point.starts_with("hand-back")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, coming).await.unwrap_or_else(|_| panic!("{:?}", missing()));
        server.stop().await;
        assert_eq!(missing(), [""; 0]);
    }
}

#[test]
fn an_ordinary_build_has_no_fault_points() {
    let tree = |edges: &str| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["tree", "--offline", "--edges", edges, "--invert", "fail"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(!tree("features,no-dev").contains("failpoints"));
    assert!(tree("features").contains("failpoints"), "the tests have them");
}
