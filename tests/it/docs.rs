//! Documentation pages: who may open which, what they are made of, and what
//! they say of a deployment.

use reqwest::header::LOCATION;
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::support::{Api, Database, Server, Target, json_of, on_each_database};
use crate::wire::{anonymous, call, echo, header, managed, names, refusal};

/// A key of the right form that nobody has.
fn stranger() -> String {
    use millrace::ids::{Key, KeyKind};
    Key::generate(KeyKind::Deployment).unwrap().reveal().to_owned()
}

/// Opens both the page and its document; they answer alike.
async fn open(api: &Api, named: &str, bearer: Option<&str>) -> (Response, Response) {
    let get = async |rest: &str| {
        let url = format!("{}/deployment/{named}/docs/{rest}", api.url);
        let request = api.client.get(url);
        let request = match bearer {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        request.send().await.unwrap()
    };
    (get("").await, get("openapi.json").await)
}

async fn opens(api: &Api, named: &str, bearer: Option<&str>) -> Value {
    let (page, document) = open(api, named, bearer).await;
    assert_eq!(page.status(), 200);
    json_of(document, 200).await
}

/// The refusal of both, which must be the same.
async fn refused(api: &Api, named: &str, bearer: Option<&str>, status: u16, code: &str) -> Value {
    let (page, document) = open(api, named, bearer).await;
    let page = anonymous(refusal(page, status, code).await);
    assert_eq!(page, anonymous(refusal(document, status, code).await));
    page
}

async fn change(api: &Api, target: &Target, fields: &Value) {
    let path = managed(&format!("api-deployment/{}/", target.id));
    json_of(call(api, Method::PATCH, &path, &target.platform_key, fields).await, 200).await;
}

on_each_database! {
    async fn a_page_opens_with_the_key_or_where_it_is_public_and_otherwise_tells_nothing(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let other = api.deploy_in("acme", &target.platform_key, "other", echo(), json!({})).await;
        let unknown = format!("dep_{}", "x".repeat(20));
        opens(api, &target.key, None).await;
        opens(api, &target.public_id, Some(&target.key)).await;

        // What is not there and what is not public are answered alike.
        let missing = refused(api, &unknown, None, 404, "not_found").await;
        assert_eq!(refused(api, &target.public_id, None, 404, "not_found").await, missing);
        let bearer = Some(other.key.as_str());
        assert_eq!(refused(api, &target.public_id, bearer, 404, "not_found").await, missing);
        assert_eq!(refused(api, &unknown, bearer, 404, "not_found").await, missing);

        let nobody = refused(api, &stranger(), None, 401, "unauthorized").await;
        let mut broken = target.key.clone();
        broken.pop();
        for named in [broken.as_str(), "unst_", "x", &target.platform_key] {
            assert_eq!(refused(api, named, None, 401, "unauthorized").await, nobody, "{named}");
        }
        for bearer in [stranger().as_str(), "x", &target.platform_key] {
            for named in [&target.public_id, &unknown] {
                let refusal = refused(api, named, Some(bearer), 401, "unauthorized").await;
                assert_eq!(refusal, nobody);
            }
        }

        change(api, &target, &json!({"public_docs": true})).await;
        opens(api, &target.public_id, None).await;
        opens(api, &target.public_id, Some("x")).await;
        refused(api, &other.public_id, None, 404, "not_found").await;
        change(api, &target, &json!({"public_docs": null})).await;
        refused(api, &target.public_id, None, 404, "not_found").await;

        let keys = managed(&format!("api-deployment/{}/key/", target.id));
        let write = json!({"expires_at": chrono::Utc::now() + chrono::TimeDelta::milliseconds(300)});
        let made = call(api, Method::POST, &keys, &target.platform_key, &write).await;
        let expiring = json_of(made, 201).await["api_key"].as_str().unwrap().to_owned();
        let expired = async {
            while open(api, &expiring, None).await.1.status() == 200 {}
        };
        tokio::time::timeout(crate::support::PATIENCE, expired).await.expect("it expires");
        assert_eq!(refused(api, &expiring, None, 401, "unauthorized").await, nobody);
        let listed = call(api, Method::GET, &keys, &target.platform_key, &Value::Null).await;
        for key in json_of(listed, 200).await["results"].as_array().unwrap() {
            let path = format!("{keys}{}/", key["id"].as_str().unwrap());
            call(api, Method::DELETE, &path, &target.platform_key, &Value::Null).await;
        }
        assert_eq!(refused(api, &target.key, None, 401, "unauthorized").await, nobody);
        let path = managed(&format!("api-deployment/{}/", other.id));
        call(api, Method::DELETE, &path, &other.platform_key, &Value::Null).await;
        assert_eq!(refused(api, &other.public_id, None, 404, "not_found").await, missing);
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_keeps_to_itself_and_never_repeats_the_key_in_its_address() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let (page, document) = open(api, &target.key, None).await;
    let whole = api.client.get(format!("{}/docs/", api.url)).send().await.unwrap();
    for (answer, media) in [
        (page, "text/html; charset=utf-8"),
        (document, "application/json"),
        (whole, "text/html; charset=utf-8"),
    ] {
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "content-type"), media);
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer, "cache-control"), "no-store");
        let policy = header(&answer, "content-security-policy").to_owned();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains(&target.key) && !text.contains(&target.key[5..]), "{text}");
    }
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    for path in ["/", "/docs", &format!("/deployment/{}/docs", target.key)] {
        let answer = client.get(format!("{}{path}", api.url)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, LOCATION.as_str())), (307, "docs/"));
    }
    for path in ["/docs/", &format!("/deployment/{}/docs/", target.key)] {
        let url = format!("{}{path}", api.url);
        let head = api.client.head(&url).send().await.unwrap();
        assert_eq!((head.status().as_u16(), head.text().await.unwrap().len()), (200, 0));
        for accepted in ["text/html", "text/*;q=0.1, application/json;q=0", "*/*"] {
            let answer = api.client.get(&url).header("accept", accepted).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{accepted}");
        }
        let answer = api.client.get(&url).header("accept", "application/json").send().await;
        refusal(answer.unwrap(), 406, "not_acceptable").await;
    }
    // A deployment of that name is no page.
    let named = api.deploy_in("acme", &target.platform_key, "docs", echo(), json!({})).await;
    let url = format!("{}/deployment/api/acme/docs", api.url);
    let answer = client.post(url).bearer_auth(&named.key).json(&json!({"input_data": 1}));
    assert_eq!(answer.send().await.unwrap().status(), 200);
    server.stop().await;
}

/// What a page names in `href`, `src` and `data-document`.
fn links(page: &str) -> Vec<&str> {
    let named = |attribute: &'static str| {
        let pieces = page.split(attribute).skip(1);
        pieces.map(|piece| piece.split_once('"').unwrap().0)
    };
    named("href=\"").chain(named("src=\"")).chain(named("data-document=\"")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_page_needs_comes_from_this_server_and_is_kept() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let mut assets = Vec::new();
    for path in ["/docs/", &format!("/deployment/{}/docs/", target.key)] {
        let url = reqwest::Url::parse(&format!("{}{path}", api.url)).unwrap();
        let page = api.client.get(url.clone()).send().await.unwrap().text().await.unwrap();
        for link in links(&page).into_iter().filter(|link| !link.starts_with("data:")) {
            assert!(!link.contains("//") && !link.starts_with('/'), "{link} is relative");
            let to = url.join(link).unwrap();
            let answer = api.client.get(to.clone()).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{to}");
            if !to.path().ends_with(".json") {
                assets.push(to);
            }
        }
    }
    assert_eq!(assets.len(), 8);
    for url in &assets {
        let media = if url.path().ends_with(".js") { "text/javascript" } else { "text/css" };
        for accepted in ["*/*", &format!("{media},*/*;q=0.1")] {
            let answer = api.client.get(url.clone()).header("accept", accepted).send().await;
            let answer = answer.unwrap();
            assert_eq!(header(&answer, "content-type"), format!("{media}; charset=utf-8"));
            assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
            assert!(header(&answer, "cache-control").ends_with("max-age=31536000, immutable"));
        }
        let packed = api.client.get(url.clone()).header("accept-encoding", "gzip").send().await;
        let packed = packed.unwrap();
        assert_eq!(header(&packed, "content-encoding"), "gzip");
        let tag = header(&packed, "etag").to_owned();
        let known = api.client.get(url.clone()).header("if-none-match", &tag).send().await.unwrap();
        assert_eq!((known.status().as_u16(), header(&known, "etag")), (304, tag.as_str()));
        let head = api.client.head(url.clone()).send().await.unwrap();
        assert_eq!((head.status().as_u16(), header(&head, "etag")), (200, tag.as_str()));
        let posted = api.client.post(url.clone()).send().await.unwrap();
        assert_eq!(header(&posted, "allow"), "GET, HEAD");
        refusal(posted, 405, "method_not_allowed").await;
        let plain = api.client.get(url.clone()).send().await.unwrap().text().await.unwrap();
        // In a style sheet only these fetch; what they fetch is in it.
        if media == "text/css" {
            assert!(!plain.contains("@import"));
            for target in plain.split("url(").skip(1) {
                assert!(target.trim_start_matches(['"', '\'']).starts_with("data:"));
            }
        }
    }
    let folder = assets[0].join(".").unwrap();
    for other in ["", "swagger-ui-bundle.js.map", "oauth2-redirect.html", "x", "../page.js"] {
        let answer = api.client.get(folder.join(other).unwrap()).send().await.unwrap();
        refusal(answer, 404, "not_found").await;
    }
    server.stop().await;
}

#[test]
fn addresses_of_assets_name_the_version_of_the_viewer_that_is_built_in() {
    let manifest = include_str!("../../Cargo.toml");
    let asked = manifest.split_once("swagger-ui-dist = { version = \"=").unwrap().1;
    let asked = asked.split_once('"').unwrap().0;
    assert!(millrace::api::docs::stamp().starts_with(&format!("{asked}-")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_says_what_the_deployment_is_at_the_moment() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let fields = json!({"display_name": "A </script><script>alert(1)</script>",
        "description": "**bold** <img src=x onerror=alert(1)> & more", "max_files": 3,
        "rate_limit": {"requests": 7, "per_seconds": 11, "burst": 13}, "max_file_bytes": 1_048_577});
    let steps = json!([{"uses": "extract_text"}]);
    let platform = api.organisation("acme").await;
    let target = api.deploy_in("acme", &platform, "demo", steps, fields.clone()).await;
    let document = opens(api, &target.key, None).await;
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["title"], fields["display_name"]);
    assert_eq!(document["info"]["version"], "1");
    let text = document["info"]["description"].as_str().unwrap();
    assert!(text.starts_with("**bold** &lt;img src=x onerror=alert(1)&gt; &amp; more"), "{text}");
    for row in [
        "| requests | 7 in 11 seconds, evenly spread; 13 at once after a rest |",
        "| documents in one submission | 3 |",
        "| size of a document | 1048577 bytes |",
        "| a result is kept | for ever |",
    ] {
        assert!(text.contains(row), "{row}: {text}");
    }
    let base = format!("/deployment/{}", target.public_id);
    let of = |name: &str| format!("{base}/{name}/{{execution_id}}/");
    let paths = [format!("{base}/"), of("status"), of("result"), of("events"), of("cancel")];
    assert_eq!(names(&document["paths"]), paths);
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["JsonSubmission"]["properties"]["documents"]["maxItems"], 3);
    let files = &schemas["FormSubmission"]["properties"]["files"];
    assert_eq!((&files["type"], &files["maxItems"]), (&json!("array"), &json!(3)));
    assert_eq!(files["items"]["format"], "binary");
    let submit = &document["paths"][&paths[0]]["post"];
    let samples = submit["x-codeSamples"].as_array().unwrap();
    assert_eq!(samples.len(), 6);
    for sample in samples {
        let source = sample["source"].as_str().unwrap();
        assert!(source.contains("MILLRACE_KEY") && !source.contains("unst_"), "{source}");
        assert!(source.contains(&format!("{}{base}/", api.url)), "{source}");
        assert!(submit["description"].as_str().unwrap().contains(source));
    }

    change(api, &target, &json!({"max_files": 5, "result_ttl_seconds": 60})).await;
    let document = opens(api, &target.key, None).await;
    assert_eq!(document["info"]["version"], "2");
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["JsonSubmission"]["properties"]["documents"]["maxItems"], 5);
    let text = document["info"]["description"].as_str().unwrap();
    assert!(text.contains("| a result is kept | 60 seconds |"), "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deployments_own_schema_types_and_addresses_hold_for_its_pages() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let schema = json!({"type": "object", "required": ["customer"],
        "properties": {"customer": {"type": "string"}}});
    let types = json!(["application/pdf"]);
    change(api, &target, &json!({"input_schema": schema, "allowed_mime_types": types})).await;
    let document = opens(api, &target.key, None).await;
    let input = &document["components"]["schemas"]["JsonSubmission"]["properties"]["input_data"];
    let named = input["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    assert_eq!(document["components"]["schemas"][named], schema);
    assert!(document["info"]["description"].as_str().unwrap().contains("`application/pdf`"));
    change(api, &target, &json!({"ip_allowlist": ["192.0.2.0/24"]})).await;
    refused(api, &target.key, None, 403, "address_not_allowed").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_caller_calls_the_server_never_ends_a_string_of_an_example() {
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let url = format!("{}/deployment/{}/docs/openapi.json", api.url, target.key);
    for host in ["a\"; rm -rf x; \"", "$(id)", "`id`", "{x}"] {
        let answer = api.client.get(&url).header("host", host).send().await.unwrap();
        // Some are refused before they come this far.
        if answer.status() == 200 {
            let text = answer.text().await.unwrap();
            assert!(!text.contains(host) && text.contains("http://127.0.0.1:8080/"), "{host}");
        }
    }
    let answer = api.client.get(&url).header("host", "api.example:8443").send().await.unwrap();
    let text = json_of(answer, 200).await.to_string();
    assert!(text.contains("http://api.example:8443/deployment/"), "{text}");
    server.stop().await;

    let database = Database::sqlite();
    let public = "[server]\npublic_url = \"https://millrace.example/base/\"";
    let server = Server::start_with(&database, public).await;
    let target = server.api.deploy(echo()).await;
    let document = opens(&server.api, &target.key, None).await;
    assert_eq!(document["servers"], json!([{"url": "https://millrace.example/base"}]));
    let submit = &document["paths"][format!("/deployment/{}/", target.public_id)]["post"];
    let source = submit["x-codeSamples"][0]["source"].as_str().unwrap();
    assert!(source.contains("\"https://millrace.example/base/deployment/dep_"), "{source}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_which_fields_were_left_empty_is_taken_as_if_they_were_not_there() {
    use crate::wire::{FORM, field, file, form};
    let database = Database::sqlite();
    let server = Server::start(&database).await;
    let api = &server.api;
    let target = api.deploy(echo()).await;
    let empty = ["input_data", "parameters", "custom_data", "tags"].map(|name| field(name, ""));
    let path = format!("/deployment/{}/", target.public_id);
    let submit = async |parts: &[Vec<u8>]| {
        let request = api.post(&path, &target.key).header("content-type", FORM);
        request.body(form(parts)).send().await.unwrap()
    };
    let filled = [&[file("a.txt", "a")], empty.as_slice()].concat();
    assert_eq!(submit(&filled).await.status(), 202);
    refusal(submit(&empty).await, 400, "nothing_to_do").await;
    let blank = [file("a.txt", "a"), field("parameters", "{")];
    refusal(submit(&blank).await, 400, "invalid_value").await;
    server.stop().await;
}
