//! From where a deployment may be called.

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::limits::change;
use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{anonymous, call, echo, refusal};

async fn submit_from(api: &Api, target: &Target, lines: &[&str]) -> Response {
    let request = api.post(&format!("/deployment/{}/", target.public_id), &target.key);
    let request =
        lines.iter().fold(request, |request, line| request.header("x-forwarded-for", *line));
    request.json(&json!({"input_data": 1})).send().await.unwrap()
}

on_each_database! {
    async fn every_route_of_a_deployment_asks_from_where_and_only_the_right_key_is_told(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let id = api.accepted(&target, &json!({"input_data": 1})).await;
        api.ended(&target, &id).await;
        change(api, &target, json!({"ip_allowlist": ["192.0.2.0/24"]})).await;
        let (dep, unstract) = (&target.public_id, format!("/deployment/api/{ORG}/{}/", target.api_name));
        let other = api.deploy_in(ORG, &target.platform_key, "other", echo(), json!({})).await;
        let unknown = api.get(&format!("/deployment/{dep}/status/{id}/"), "unst_x").send().await;
        let unknown = anonymous(refusal(unknown.unwrap(), 401, "unauthorized").await);
        for (method, path) in [
            (Method::POST, format!("/deployment/{dep}/")),
            (Method::GET, format!("/deployment/{dep}/status/{id}/")),
            (Method::GET, format!("/deployment/{dep}/result/{id}/")),
            (Method::POST, format!("/deployment/{dep}/cancel/{id}/")),
            (Method::POST, unstract.clone()),
            (Method::GET, format!("{unstract}?execution_id={id}")),
        ] {
            let answer = call(api, method.clone(), &path, &target.key, &Value::Null).await;
            refusal(answer, 403, "address_not_allowed").await;
            // Who has no key of it is told what all are told.
            let answer = call(api, method.clone(), &path, &target.platform_key, &Value::Null).await;
            assert_eq!(anonymous(refusal(answer, 401, "unauthorized").await), unknown);
            let answer = call(api, method, &path, &other.key, &Value::Null).await;
            refusal(answer, 404, "not_found").await;
        }
        change(api, &target, json!({"ip_allowlist": ["192.0.2.0/24", "127.0.0.1/32"]})).await;
        let path = format!("/deployment/{dep}/result/{id}/");
        json_of(api.get(&path, &target.key).send().await.unwrap(), 200).await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_of_its_address_counts_only_behind_a_trusted_proxy() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let target = server.api.deploy(echo()).await;
    change(&server.api, &target, json!({"ip_allowlist": ["203.0.113.0/24"]})).await;
    let answer = submit_from(&server.api, &target, &["203.0.113.9"]).await;
    refusal(answer, 403, "address_not_allowed").await;
    server.stop().await;

    let changes = "[server]\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    let server = Server::start_with(&database, changes).await;
    for (lines, passes) in [
        (&["203.0.113.9"][..], true),
        (&["198.51.100.1, 203.0.113.9, 10.0.0.7"], true),
        (&["198.51.100.1", "::ffff:203.0.113.9"], true),
        (&["203.0.113.9, 198.51.100.1"], false),
        (&["203.0.113.9", "198.51.100.1"], false),
        (&["203.0.113.9, unknown"], false),
        (&["10.0.0.7"], false),
        (&[], false),
    ] {
        let answer = submit_from(&server.api, &target, lines).await;
        if passes {
            json_of(answer, 202).await;
        } else {
            refusal(answer, 403, "address_not_allowed").await;
        }
    }
    server.stop().await;
}
