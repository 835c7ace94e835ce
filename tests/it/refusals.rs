//! Every refusal has the one shape, whatever the request looks like.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Database, Server, json_of};
use crate::wire::{assert_refusal, echo, managed, parsed, places, raw, refusal};

const NOBODY: &str = "0190a0a0-0000-7000-8000-000000000000";

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
        "/x",
        "/deployment",
        "/deployment/",
        "/deployment/a/b/",
        "/unstract/",
        "/unstract/acme/",
        "/unstract/acme/api/v2/",
        "/unstract/acme/api/v2/x/",
        "/api/",
        "/api/v1/x",
        "/health/",
        "/health/live/x",
        "/openapi.json/",
        "/deployment/dep_x/status/x/y/",
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
        for path in ["/health/live", "/nowhere", "/openapi.json", "/unstract/acme/api/v2/workflow"]
        {
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
    let lists = [
        managed("workflow/"),
        managed("api-deployment"),
        managed(&format!("api-deployment/{}/key/", target.id)),
    ];
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
    for (query, place) in
        [("wait=56", "wait"), ("wait=x", "wait"), ("wait=-1", "wait"), ("waits=1", "waits")]
    {
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
