//! Who is refused, and that every refusal has the one shape.

use millrace::ids::{Key, KeyKind};
use millrace_entities::enums::Tier;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Api, Database, OPERATOR, Server, Target, json_of};
use crate::wire::{
    anonymous, assert_refusal, echo, managed, parsed, places, platform_key, raw, refusal,
};

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

fn management_routes(org_id: &str, workflow: &str, deployment: &str, key: &str) -> Vec<(Method, String)> {
    let base = format!("/unstract/{org_id}/api/v2");
    let mut routes = Vec::new();
    for (path, methods) in [
        ("workflow/".to_owned(), vec![Method::GET, Method::POST]),
        (format!("workflow/{workflow}/"), vec![Method::GET, Method::PUT, Method::PATCH, Method::DELETE]),
        (format!("workflow/{workflow}/validate/"), vec![Method::POST]),
        ("api-deployment/".to_owned(), vec![Method::GET, Method::POST]),
        (format!("api-deployment/{deployment}/"), vec![Method::GET, Method::PUT, Method::PATCH, Method::DELETE]),
        (format!("api-deployment/{deployment}/key/"), vec![Method::GET, Method::POST]),
        (format!("api-deployment/{deployment}/key/{key}/"), vec![Method::GET, Method::DELETE]),
    ] {
        routes.extend(methods.into_iter().map(|method| (method, format!("{base}/{path}"))));
    }
    routes
}

/// A call with a body that the route would take.
async fn call(api: &Api, method: &Method, path: &str, authorization: Option<&str>) -> reqwest::Response {
    let mut request = api.client.request(method.clone(), format!("{}{path}", api.url));
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    if [Method::POST, Method::PUT, Method::PATCH].contains(method) {
        let body = match path {
            path if path.ends_with("/key/") => json!({"description": "x"}),
            path if path.contains("/workflow/") && *method == Method::PATCH => json!({}),
            path if path.contains("/workflow/") => json!({"name": "n", "type": "TASK", "steps": echo()}),
            path if path.contains("/api-deployment/") && *method == Method::PATCH => json!({}),
            path if path.contains("/api-deployment/") => json!({"api_name": "n", "workflow": NOBODY}),
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

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_malformed_unknown_revoked_or_expired_key_gets_one_identical_answer() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let keys = managed(&format!("api-deployment/{}/key/", target.id));
    let made = json_of(api.post(&keys, &target.platform_key).json(&json!({})).send().await.unwrap(), 201).await;
    let revoked = made["api_key"].as_str().unwrap();
    let path = format!("{keys}{}/", made["id"].as_str().unwrap());
    let gone = api.client.delete(format!("{}{path}", api.url)).bearer_auth(&target.platform_key);
    assert_eq!(gone.send().await.unwrap().status(), 204);
    let (_, expired) = server
        .engine
        .create_key(target.id.parse().unwrap(), "old".into(), Some(chrono::Utc::now() - chrono::TimeDelta::seconds(1)))
        .await
        .unwrap();
    let unknown = Key::generate(KeyKind::Deployment).unwrap();
    let mut wrong_checksum = target.key.clone();
    wrong_checksum.replace_range(10..11, if &target.key[10..11] == "A" { "B" } else { "A" });
    let mut authorizations = vec![
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
        Some(format!("Bearer {}", expired.reveal())),
        Some(format!("Bearer {}", unknown.reveal())),
        Some(format!("Bearer {}", target.platform_key)),
        Some(format!("Bearer {OPERATOR}")),
        Some(format!("Bearer {}", "x".repeat(5000))),
    ];
    let mut bodies = Vec::new();
    for (method, path) in deployment_routes(&target.public_id, NOBODY) {
        for authorization in &authorizations {
            let answer = call(api, &method, &path, authorization.as_deref()).await;
            assert_eq!(answer.headers()["www-authenticate"], "Bearer");
            bodies.push(anonymous(refusal(answer, 401, "unauthorized").await));
        }
    }
    authorizations.retain(|value| value.as_deref() != Some(&format!("Bearer {}", target.platform_key)));
    authorizations.push(Some(format!("Bearer {}", target.key)));
    authorizations.push(Some(format!("Bearer {}", Key::generate(KeyKind::Platform).unwrap().reveal())));
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
    for path in ["/deployment/api/acme/neighbour/", "/deployment/api/stranger/demo/", "/deployment/api/none/none/"] {
        let answer = call(api, &Method::POST, path, Some(&bearer)).await;
        bodies.push(anonymous(refusal(answer, 404, "not_found").await));
    }
    let bearer = format!("Bearer {stranger}");
    let (workflow, key) = (workflow_of(api, &ours).await, key_of(api, &ours).await);
    let named: Vec<_> = management_routes("stranger", &workflow, &ours.id, &key)
        .into_iter()
        .filter(|(_, path)| !path.ends_with("/workflow/") && !path.ends_with("/api-deployment/"))
        .chain(management_routes("stranger", NOBODY, NOBODY, NOBODY).into_iter().filter(|(_, path)| path.contains(NOBODY)))
        .chain(management_routes("acme", &workflow, &ours.id, &key))
        .chain(management_routes("nowhere", &workflow, &ours.id, &key))
        .collect();
    for (method, path) in named {
        let answer = call(api, &method, &path, Some(&bearer)).await;
        bodies.push(anonymous(refusal(answer, 404, "not_found").await));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
    // A deployment cannot be made of another organisation's workflow either.
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
            let manages_keys = path.ends_with("/key/") && method == Method::POST;
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
async fn a_wrong_method_is_told_the_right_ones_and_a_wrong_place_that_it_is_wrong() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    for (method, path, allowed) in [
        (Method::GET, "/deployment/dep_x/", "POST"),
        (Method::PUT, "/deployment/dep_x/status/x/", "GET"),
        (Method::DELETE, "/deployment/api/acme/x/", "POST, GET"),
        (Method::PATCH, "/unstract/acme/api/v2/workflow/", "POST, GET"),
        (Method::POST, "/unstract/acme/api/v2/api-deployment/x/", "GET, PUT, PATCH, DELETE"),
        (Method::POST, "/health/live", "GET"),
        (Method::OPTIONS, "/health/live", "GET"),
        (Method::HEAD, "/deployment/dep_x/", "POST"),
    ] {
        let url = format!("{}{path}", api.url);
        let answer = api.client.request(method.clone(), url).send().await.unwrap();
        let allow = answer.headers()["allow"].to_str().unwrap().to_owned();
        let mut allow: Vec<_> = allow.split(',').map(str::trim).collect();
        let mut allowed: Vec<_> = allowed.split(", ").collect();
        allow.sort_unstable();
        allowed.sort_unstable();
        assert_eq!(allow, allowed, "{method} {path}");
        if method == Method::HEAD {
            assert_eq!(answer.status(), 405);
        } else {
            refusal(answer, 405, "method_not_allowed").await;
        }
    }
    for path in [
        "/", "/x", "/deployment", "/deployment/", "/deployment/a/b/", "/unstract/", "/unstract/acme/",
        "/unstract/acme/api/v2/", "/unstract/acme/api/v2/x/", "/api/", "/api/v1/x", "/health/",
        "/health/live/x", "/openapi.json/", "/deployment/dep_x/status/x/y/",
    ] {
        let answer = api.client.get(format!("{}{path}", api.url)).send().await.unwrap();
        refusal(answer, 404, "not_found").await;
    }
    let url = format!("{}/health/live", api.url);
    let head = api.client.head(&url).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-type"], "application/json");
    for accepted in ["text/html", "image/*, application/json;q=0"] {
        let answer = api.client.get(&url).header("accept", accepted).send().await.unwrap();
        refusal(answer, 406, "not_acceptable").await;
    }
    for accepted in ["*/*", "text/html, application/json;q=0.5", "application/*", "", "nonsense"] {
        let answer = api.client.get(&url).header("accept", accepted).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{accepted:?}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_sane_request_id_is_echoed_and_a_hostile_one_replaced() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let longest = "x".repeat(128);
    for (given, kept) in [
        ("trace-1_2.3".as_bytes(), true),
        (longest.as_bytes(), true),
        (b"x\"y", false),
        (b"x y", false),
        (b"<script>", false),
        (b"\xff\xfe", false),
        ("x".repeat(129).as_bytes(), false),
        (b"", false),
        (b"x\ty", false),
    ] {
        for path in ["/health/live", "/nowhere", "/openapi.json", "/unstract/acme/api/v2/workflow"] {
            let request = api.client.get(format!("{}{path}", api.url));
            let answer = request.header("x-request-id", given).send().await.unwrap();
            let id = answer.headers()["x-request-id"].as_bytes();
            assert_eq!(id == given, kept, "{given:?} on {path}");
            assert!((1..=128).contains(&id.len()));
            assert_eq!(answer.headers().get_all("x-request-id").iter().count(), 1);
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_query_names_its_parameter() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let lists = [managed("workflow/"), managed("api-deployment"), managed(&format!("api-deployment/{}/key/", target.id))];
    for path in lists {
        for (query, place) in [
            ("page=0", "page"),
            ("page=-1", "page"),
            ("page=x", "page"),
            ("page=", "page"),
            ("page=99999999999999999999", "page"),
            ("page=5000000000", "page"),
            ("page_size=0", "page_size"),
            ("page_size=1001", "page_size"),
            ("pagesize=1", "pagesize"),
            ("page=%ff", "page"),
            ("%ff=1", "\u{fffd}"),
        ] {
            let answer = api.get(&format!("{path}?{query}"), &target.platform_key).send().await;
            let body = refusal(answer.unwrap(), 400, "invalid_value").await;
            assert_eq!(places(&body), [place], "{query}");
        }
        let far = api.get(&format!("{path}?page=4294967295&page_size=1000"), &target.platform_key);
        let body = json_of(far.send().await.unwrap(), 200).await;
        assert_eq!(body["results"], json!([]));
    }
    let status = format!("/deployment/{}/status/{NOBODY}/", target.public_id);
    for (query, place) in [("wait=56", "wait"), ("wait=x", "wait"), ("wait=-1", "wait"), ("waits=1", "waits")] {
        let answer = api.get(&format!("{status}?{query}"), &target.key).send().await.unwrap();
        assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place], "{query}");
    }
    let answer = api.get("/deployment/api/acme/demo/", &target.key).send().await.unwrap();
    assert_eq!(places(&refusal(answer, 400, "invalid_value").await), ["execution_id"]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_paths_are_not_found_and_never_a_fault_of_ours() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let dep = &target.public_id;
    let long = "a".repeat(30_000);
    let base = "/unstract/acme/api/v2";
    for path in [
        format!("/deployment/{dep}%2f"),
        format!("/deployment/{dep}%2fstatus%2f{NOBODY}/"),
        format!("/deployment/{dep}%00/"),
        format!("/deployment/{dep}%0a/"),
        format!("/deployment/{dep}%0d%0aX-Evil:%201/"),
        format!("/deployment//{dep}/"),
        format!("//deployment/{dep}/"),
        format!("/deployment/{dep}//"),
        format!("/deployment/./{dep}/"),
        format!("/x/../deployment/{dep}/"),
        format!("/deployment/{dep}/../{dep}/"),
        format!("/deployment/{dep}/%2e%2e/{dep}/"),
        format!("/deployment/{long}/"),
        "/deployment/%ff%fe/".to_owned(),
        "/deployment/%/".to_owned(),
        "/deployment/%zz/".to_owned(),
        format!("{base}/workflow/%00/"),
        format!("{base}/workflow/{NOBODY}%00/"),
        format!("{base}/workflow/{long}/"),
        "/unstract/%00/api/v2/workflow/".to_owned(),
        "/deployment/api/acme%00/demo/".to_owned(),
        "/deployment/api/acme%2fdemo/".to_owned(),
    ] {
        for key in [&target.key, &target.platform_key] {
            for method in ["GET", "POST"] {
                let request = format!(
                    "{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\
                     content-type: application/json\r\ncontent-length: 17\r\nconnection: close\r\n\r\n\
                     {{\"input_data\": 1}}"
                );
                let answer = raw(api, request.as_bytes()).await;
                let (status, body) = parsed(&answer);
                let short = &path[..path.len().min(60)];
                assert!(body.is_object(), "{method} {short}: {answer}");
                assert!([401, 404, 405].contains(&status), "{status} {method} {short}: {body}");
                assert_refusal(&body, body["errors"][0]["code"].as_str().unwrap_or_default());
            }
        }
    }
    // What is no HTTP at all is refused before routing; it must not be a 5xx,
    // nor hang.
    for path in ["/deployment/\u{7f}/", "/deployment/\u{e4}/", "/a b/", &"a".repeat(200_000)] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let (status, _) = parsed(&raw(api, request.as_bytes()).await);
        assert!((400..500).contains(&status), "{status} for {:?}", &path[..path.len().min(20)]);
    }
    let answer = api.client.get(format!("{}/health/live?%ff=%00", api.url)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_never_repeats_a_value_of_the_request() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let secret = "confidential-".repeat(1000);
    for body in [
        json!({"input_data": 1, "timeout": secret}),
        json!({"input_data": 1, "documents": secret}),
        json!({"documents": [{"name": "a", "content_base64": secret}]}),
        json!({"documents": [{"name": {"x": secret}, "content_base64": ""}]}),
        json!({"input_data": 1, "tags": {"x": secret}}),
        json!({"input_data": 1, "parameters": secret}),
        Value::String(secret.clone()),
    ] {
        let text = api.submit(&target, &body).await;
        let text = refusal(text, 400, "invalid_value").await.to_string();
        assert!(!text.contains("confidential"), "{text}");
        assert!(text.len() < 2000);
    }
    server.stop().await;
}
