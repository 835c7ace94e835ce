//! A server that is told to end while it is used: whoever is being served is
//! answered, and what has not ended goes on after the restart.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::callers::Callers;
use crate::support::{PATIENCE, Process, Target, json_of, on_each_database};
use crate::wire::{
    FORM, cancel, connect, echo, endless, file, form, no_upload_is_left, parsed, running,
    until_closed,
};

/// A drain that is soon over, and a lease that is not: what is handed back
/// does not wait for it.
const SOON: &[(&str, &str)] =
    &[("MILLRACE_ENGINE__DRAIN_GRACE_SECONDS", "5"), ("MILLRACE_ENGINE__LEASE_SECONDS", "60")];

/// Head and first half of an upload.
fn half_an_upload(target: &Target) -> Vec<u8> {
    let body = form(&[file("slow.txt", &"slow ".repeat(1000))]);
    let head = format!(
        "POST /deployment/{}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: {FORM}\r\nContent-Length: {}\r\n\r\n",
        target.public_id,
        target.key,
        body.len()
    );
    [head.as_bytes(), &body[..body.len() / 2]].concat()
}

on_each_database! {
    async fn whoever_is_being_served_when_the_server_is_told_to_end_is_answered(database) {
        let server = Process::start(&database, SOON).await;
        let api = server.api.clone();
        let target = api.deploy(echo()).await;
        let key = target.platform_key.as_str();
        let long = api.deploy_in("acme", key, "endless", endless(), json!({})).await;
        let unended = api.accepted(&long, &json!({"input_data": 1})).await;
        running(&api, &long, &unended).await;

        // One waits for a status, one within its submission, one follows the
        // events, one is in the middle of an upload.
        let of = |what: &str| format!("/deployment/{}/{what}/{unended}/", long.public_id);
        let waiting = tokio::spawn(api.get(&format!("{}?wait=55", of("status")), &long.key).send());
        let submission = json!({"input_data": 2, "timeout": 300});
        let path = format!("/deployment/{}/", long.public_id);
        let submitting = tokio::spawn(api.post(&path, &long.key).json(&submission).send());
        let events = api.get(&of("events"), &long.key).send().await.unwrap();
        let mut upload = connect(&api).await;
        upload.write_all(&half_an_upload(&target)).await.unwrap();
        let callers = Callers::start(&api, &target);
        callers.accepted(50).await;
        // The second one runs, so its caller waits by now.
        let accepted = async {
            let list = format!("/unstract/acme/api/v2/execution/?deployment={}", long.id);
            while json_of(api.get(&list, key).send().await.unwrap(), 200).await["count"] != 2 {}
        };
        tokio::time::timeout(PATIENCE, accepted).await.expect("it is accepted");

        server.tell_to_end();
        let told = callers.dismissed().await;
        assert_eq!((told.broken.as_slice(), told.unheard), ([].as_slice(), 0), "all are answered");
        let waited = json_of(waiting.await.unwrap().unwrap(), 200).await;
        assert_eq!(waited["status"], "EXECUTING");
        let submitted = json_of(submitting.await.unwrap().unwrap(), 202).await;
        assert!(events.text().await.unwrap().contains("EXECUTING"), "the stream ends well");
        let (status, body) = parsed(&until_closed(&mut upload).await);
        assert_eq!((status, &body["errors"][0]["code"]), (503, &Value::from("draining")));
        assert!(server.ended(), "it ends well");

        let server = Process::start(&database, SOON).await;
        no_upload_is_left(&database).await;
        for id in [&unended, submitted["execution_id"].as_str().unwrap()] {
            running(&server.api, &long, id).await;
            assert_eq!(cancel(&server.api, &long, id).await.status(), 202);
            assert_eq!(server.api.ended(&long, id).await["status"], "STOPPED");
        }
        for (input, id) in &told.accepted {
            assert_eq!(server.api.ended(&target, id).await["status"], "COMPLETED");
            assert_eq!(server.api.result(&target, id).await[0]["result"]["output"], *input);
        }
        assert!(server.terminate());
    }
}

on_each_database! {
    /// It is held open by what runs, so that the caller cannot come too late.
    async fn a_caller_in_conversation_hears_by_an_answer_that_the_server_ends(database) {
        let settings = [("MILLRACE_ENGINE__DRAIN_GRACE_SECONDS", "60")];
        let server = Process::start(&database, &settings).await;
        let api = server.api.clone();
        let target = api.deploy(endless()).await;
        let id = api.accepted(&target, &json!({"input_data": 1})).await;
        running(&api, &target, &id).await;
        let ask = format!(
            "GET /deployment/{}/status/{id}/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
            target.public_id, target.key
        );
        let mut talking = connect(&api).await;
        talking.write_all(ask.as_bytes()).await.unwrap();
        let mut heard = [0; 12];
        talking.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"HTTP/1.1 200");

        server.tell_to_end();
        let draining = async {
            while api.submit(&target, &json!({"input_data": 2})).await.status() != 503 {}
        };
        tokio::time::timeout(PATIENCE, draining).await.expect("it drains");
        talking.write_all(ask.as_bytes()).await.unwrap();
        // The rest of the first answer, the second one, and the end.
        let heard = until_closed(&mut talking).await.to_lowercase();
        assert_eq!(heard.matches("http/1.1 200").count(), 1, "{heard}");
        assert!(heard.contains("connection: close"), "{heard}");
        assert_eq!(cancel(&api, &target, &id).await.status(), 202);
        assert!(server.ended(), "it ends with its last execution");
    }
}
