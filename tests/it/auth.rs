//! Who is let in, and where to.

use millrace::engine::audit::Author;
use millrace::ids::{Key, KeyKind};
use millrace_entities::enums::Tier;
use reqwest::Method;
use serde_json::json;

use crate::support::{Api, Database, OPERATOR, Server, Target, json_of};
use crate::wire::{anonymous, echo, managed, platform_key, refusal};

const NOBODY: &str = "0190a0a0-0000-7000-8000-000000000000";

/// Calls of every route with the parts of paths that a test gives.
fn deployment_routes(named: &str, id: &str) -> Vec<(Method, String)> {
    vec![
        (Method::POST, format!("/deployment/{named}/")),
        (Method::GET, format!("/deployment/{named}/status/{id}/")),
        (Method::GET, format!("/deployment/{named}/result/{id}/")),
        (Method::POST, format!("/deployment/{named}/cancel/{id}/")),
    ]
}

fn management_routes(
    org_id: &str,
    workflow: &str,
    deployment: &str,
    key: &str,
) -> Vec<(Method, String)> {
    let base = format!("/unstract/{org_id}/api/v2");
    let mut routes = Vec::new();
    for (path, methods) in [
        ("workflow/".to_owned(), vec![Method::GET, Method::POST]),
        (
            format!("workflow/{workflow}/"),
            vec![Method::GET, Method::PUT, Method::PATCH, Method::DELETE],
        ),
        (format!("workflow/{workflow}/validate/"), vec![Method::POST]),
        ("api-deployment/".to_owned(), vec![Method::GET, Method::POST]),
        (
            format!("api-deployment/{deployment}/"),
            vec![Method::GET, Method::PUT, Method::PATCH, Method::DELETE],
        ),
        (format!("api-deployment/{deployment}/key/"), vec![Method::GET, Method::POST]),
        (
            format!("api-deployment/{deployment}/key/{key}/"),
            vec![Method::GET, Method::PUT, Method::PATCH, Method::DELETE],
        ),
        (format!("api-deployment/{deployment}/key/{key}/rotate/"), vec![Method::POST]),
    ] {
        routes.extend(methods.into_iter().map(|method| (method, format!("{base}/{path}"))));
    }
    routes
}

/// A call with a body that the route would take.
async fn call(
    api: &Api,
    method: &Method,
    path: &str,
    authorization: Option<&str>,
) -> reqwest::Response {
    let mut request = api.client.request(method.clone(), format!("{}{path}", api.url));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
        let body = match path {
            path if path.contains("/key/") && path.ends_with("/rotate/") => json!({}),
            path if path.contains("/key/") => json!({"description": "x"}),
            path if path.contains("/workflow/") && *method == Method::PATCH => json!({}),
            path if path.contains("/workflow/") => {
                json!({"name": "n", "type": "TASK", "steps": echo()})
            }
            path if path.contains("/api-deployment/") && *method == Method::PATCH => json!({}),
            path if path.contains("/api-deployment/") => {
                json!({"api_name": "n", "workflow": NOBODY})
            }
            path if path.contains("/organization/") => json!({"org_id": "other"}),
            _ => json!({"input_data": 1}),
        };
        request = request.json(&body);
    }
    request.send().await.unwrap()
}

async fn workflow_of(api: &Api, target: &Target) -> String {
    let path = managed(&format!("api-deployment/{}/", target.id));
    let body = json_of(api.get(&path, &target.platform_key).send().await.unwrap(), 200).await;
    body["workflow"].as_str().unwrap().to_owned()
}

async fn key_of(api: &Api, target: &Target) -> String {
    let path = managed(&format!("api-deployment/{}/key/", target.id));
    let body = json_of(api.get(&path, &target.platform_key).send().await.unwrap(), 200).await;
    body["results"][0]["id"].as_str().unwrap().to_owned()
}

/// What opens nothing of a deployment, in all its forms.
fn wrong(target: &Target, revoked: &str, expired: &str) -> Vec<Option<String>> {
    let unknown = Key::generate(KeyKind::Deployment).unwrap();
    let mut wrong_checksum = target.key.clone();
    wrong_checksum.replace_range(10..11, if &target.key[10..11] == "A" { "B" } else { "A" });
    vec![
        None,
        Some(String::new()),
        Some("Bearer".to_owned()),
        Some("Bearer ".to_owned()),
        Some(target.key.clone()),
        Some(format!("Basic {}", target.key)),
        Some(format!("Bearer {}x", target.key)),
        Some(format!("Bearer {}", &target.key[1..])),
        Some(format!("Bearer {wrong_checksum}")),
        Some(format!("Bearer {revoked}")),
        Some(format!("Bearer {expired}")),
        Some(format!("Bearer {}", unknown.reveal())),
        Some(format!("Bearer {}", target.platform_key)),
        Some(format!("Bearer {OPERATOR}")),
        Some(format!("Bearer {}", "x".repeat(5000))),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_malformed_unknown_revoked_or_expired_key_gets_one_identical_answer() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let keys = managed(&format!("api-deployment/{}/key/", target.id));
    let made =
        json_of(api.post(&keys, &target.platform_key).json(&json!({})).send().await.unwrap(), 201)
            .await;
    let revoked = made["api_key"].as_str().unwrap();
    let path = format!("{keys}{}/", made["id"].as_str().unwrap());
    let gone = api.client.delete(format!("{}{path}", api.url)).bearer_auth(&target.platform_key);
    assert_eq!(gone.send().await.unwrap().status(), 204);
    let owner = server.engine.manager(&Key::parse(&target.platform_key).unwrap()).unwrap();
    let id = target.id.parse().unwrap();
    let deployment = server.engine.store().deployment(owner.organisation_id, id).await.unwrap();
    let (_, expired) = server
        .engine
        .create_key(
            &Author::server(),
            &deployment,
            "old".into(),
            Some(chrono::Utc::now() - chrono::TimeDelta::seconds(1)),
        )
        .await
        .unwrap();
    let mut authorizations = wrong(&target, revoked, expired.reveal());
    let mut bodies = Vec::new();
    for (method, path) in deployment_routes(&target.public_id, NOBODY) {
        for authorization in &authorizations {
            let answer = call(api, &method, &path, authorization.as_deref()).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            bodies.push(anonymous(refusal(answer, 401, "unauthorized").await));
        }
    }
    authorizations
        .retain(|value| value.as_deref() != Some(&format!("Bearer {}", target.platform_key)));
    authorizations.push(Some(format!("Bearer {}", target.key)));
    authorizations
        .push(Some(format!("Bearer {}", Key::generate(KeyKind::Platform).unwrap().reveal())));
    for (method, path) in management_routes("acme", NOBODY, &target.id, NOBODY) {
        for authorization in &authorizations {
            let answer = call(api, &method, &path, authorization.as_deref()).await;
            bodies.push(anonymous(refusal(answer, 401, "unauthorized").await));
        }
    }
    for method in [Method::GET, Method::POST] {
        for key in [&target.key, &target.platform_key, "op_tess", ""] {
            let value = format!("Bearer {key}");
            let answer = call(api, &method, "/api/v1/admin/organization/", Some(&value)).await;
            bodies.push(anonymous(refusal(answer, 401, "unauthorized").await));
        }
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_in_the_path_must_be_the_bearers_own() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let other = api.deploy_in("acme", &target.platform_key, "other", echo(), json!({})).await;
    let id = api.accepted(&target, &json!({"input_data": 1})).await;
    api.ended(&target, &id).await;
    let bearer = format!("bearer {}", target.key);
    for (method, path) in deployment_routes(&target.key, &id) {
        let status = call(api, &method, &path, Some(&bearer)).await.status();
        assert!([200, 202, 409].contains(&status.as_u16()), "{status}");
    }
    for (method, path) in deployment_routes(&other.key, &id) {
        refusal(call(api, &method, &path, Some(&bearer)).await, 401, "unauthorized").await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_somebody_else_answers_as_if_it_were_not_there() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let ours = api.deploy(echo()).await;
    let neighbour = api.deploy_in("acme", &ours.platform_key, "neighbour", echo(), json!({})).await;
    let stranger = api.organisation("stranger").await;
    let bearer = format!("Bearer {}", ours.key);
    let theirs = api.accepted(&neighbour, &json!({"input_data": 1})).await;
    api.ended(&neighbour, &theirs).await;

    let mut bodies = Vec::new();
    for (named, id) in [
        (&neighbour.public_id, theirs.as_str()),
        (&neighbour.public_id, NOBODY),
        (&"dep_unknown".to_owned(), NOBODY),
    ] {
        for (method, path) in deployment_routes(named, id) {
            let answer = call(api, &method, &path, Some(&bearer)).await;
            bodies.push(anonymous(refusal(answer, 404, "not_found").await));
        }
    }
    for id in [theirs.as_str(), NOBODY, "no-id"] {
        for (method, path) in deployment_routes(&ours.public_id, id).into_iter().skip(1) {
            let answer = call(api, &method, &path, Some(&bearer)).await;
            bodies.push(anonymous(refusal(answer, 404, "not_found").await));
        }
        let path = format!("/deployment/api/acme/demo/?execution_id={id}");
        let answer = api.get(&path, &ours.key).send().await.unwrap();
        bodies.push(anonymous(refusal(answer, 404, "not_found").await));
    }
    for path in [
        "/deployment/api/acme/neighbour/",
        "/deployment/api/stranger/demo/",
        "/deployment/api/none/none/",
    ] {
        let answer = call(api, &Method::POST, path, Some(&bearer)).await;
        bodies.push(anonymous(refusal(answer, 404, "not_found").await));
    }
    let bearer = format!("Bearer {stranger}");
    let (workflow, key) = (workflow_of(api, &ours).await, key_of(api, &ours).await);
    let named: Vec<_> = management_routes("stranger", &workflow, &ours.id, &key)
        .into_iter()
        .filter(|(_, path)| !path.ends_with("/workflow/") && !path.ends_with("/api-deployment/"))
        .chain(
            management_routes("stranger", NOBODY, NOBODY, NOBODY)
                .into_iter()
                .filter(|(_, path)| path.contains(NOBODY)),
        )
        .chain(management_routes("acme", &workflow, &ours.id, &key))
        .chain(management_routes("nowhere", &workflow, &ours.id, &key))
        .collect();
    for (method, path) in named {
        let answer = call(api, &method, &path, Some(&bearer)).await;
        bodies.push(anonymous(refusal(answer, 404, "not_found").await));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_cannot_be_made_of_another_organisations_workflow() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let ours = api.deploy(echo()).await;
    let stranger = api.organisation("stranger").await;
    let workflow = workflow_of(api, &ours).await;
    let path = "/unstract/stranger/api/v2/api-deployment/";
    let mut refusals = Vec::new();
    for workflow in [workflow.as_str(), NOBODY] {
        let body = json!({"api_name": "stolen", "workflow": workflow});
        let answer = api.post(path, &stranger).json(&body).send().await.unwrap();
        refusals.push(anonymous(refusal(answer, 400, "invalid_value").await));
    }
    assert_eq!(refusals[0], refusals[1]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_key_may_do_what_its_tier_allows_and_no_more() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let (workflow, key) = (workflow_of(api, &target).await, key_of(api, &target).await);
    let reader = platform_key(&server.engine, &target.platform_key, Tier::Read).await;
    let writer = platform_key(&server.engine, &target.platform_key, Tier::ReadWrite).await;
    for (tier, bearer) in [(Tier::Read, reader), (Tier::ReadWrite, writer)] {
        let bearer = format!("Bearer {bearer}");
        for (method, path) in management_routes("acme", &workflow, &target.id, &key) {
            let manages_keys = path.contains("/key/") && method != Method::GET;
            let needed = match method {
                Method::GET => Tier::Read,
                Method::DELETE => Tier::FullAccess,
                _ if manages_keys => Tier::FullAccess,
                _ => Tier::ReadWrite,
            };
            let answer = call(api, &method, &path, Some(&bearer)).await;
            if tier < needed {
                refusal(answer, 403, "forbidden").await;
            } else {
                assert!(![401, 403].contains(&answer.status().as_u16()), "{method} {path}");
            }
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_work_with_and_without_the_last_slash() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let id = api.accepted(&target, &json!({"input_data": 1})).await;
    api.ended(&target, &id).await;
    let (workflow, key) = (workflow_of(api, &target).await, key_of(api, &target).await);
    let deployment = format!("bearer {}", target.key);
    let platform = format!("BEARER {}", target.platform_key);
    for (bearer, routes) in [
        (deployment, deployment_routes(&target.public_id, &id)),
        (platform, management_routes("acme", &workflow, &target.id, &key)),
    ] {
        for (method, path) in routes.into_iter().filter(|(method, _)| *method == Method::GET) {
            let with = call(api, &method, &path, Some(&bearer)).await;
            let without = path.trim_end_matches('/');
            let without = call(api, &method, without, Some(&bearer)).await;
            assert_eq!(with.status(), 200, "{path}");
            assert_eq!(json_of(with, 200).await, json_of(without, 200).await);
        }
    }
    let path = format!("/deployment/{}?x=1", target.public_id);
    let answer = api.post(&path, &target.key).json(&json!({"input_data": 1})).send().await;
    assert_eq!(answer.unwrap().status(), 202);
    server.stop().await;
}
