//! Documents that a submission names by URL: fetched before it is accepted.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use millrace::outbound::{Lookup, Resolver};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use crate::site::{Asked, Authority, Reply, Site, reply, silence};
use crate::support::{Api, Database, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{FORM, connect, echo, field, file, form, no_upload_is_left, places, refusal};

/// Documents may be fetched from this machine by http.
const LOCAL: &str = "[outbound]\nallowed_networks = [\"127.0.0.0/8\"]\n";

/// Names of tests, and their addresses.
#[derive(Debug)]
pub struct Names(pub HashMap<&'static str, Vec<IpAddr>>);

#[async_trait]
impl Lookup for Names {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.0.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// What each document of a submission is called, and its content.
fn texts() -> Value {
    json!([{"uses": "extract_text"}, {"uses": "jq", "input": "",
        "with": {"filter": "[.document.name, .document.mime_type, .steps.extract_text.text]"}}])
}

async fn outputs(api: &Api, target: &Target, answer: Response) -> Vec<Value> {
    let body = json_of(answer, 202).await;
    let id = body["execution_id"].as_str().unwrap();
    assert_eq!(api.ended(target, id).await["status"], "COMPLETED");
    let result = api.result(target, id).await;
    result.as_array().unwrap().iter().map(|file| file["result"]["output"].clone()).collect()
}

fn linked(url: &str) -> Value {
    json!({"documents": [{"url": url}]})
}

async fn send_form(api: &Api, target: &Target, parts: &[Vec<u8>]) -> Response {
    let path = format!("/deployment/{}/", target.public_id);
    let request = api.post(&path, &target.key).header("content-type", FORM);
    request.body(form(parts)).send().await.unwrap()
}

on_each_database! {
    async fn documents_are_fetched_before_a_submission_is_accepted(database) {
        let site = Site::start("127.0.0.1:0", |asked: &Asked| match asked.path.as_str() {
            "/named" => reply("200 OK", "content-type: text/plain\r\n\
                content-disposition: attachment; filename=\"../../etc/na\\\"me.txt\"\r\n", "named"),
            "/extended" => reply("200 OK", "content-type: text/plain\r\n\
                content-disposition: attachment; filename*=UTF-8''%e2%82%ac.txt\r\n", "extended"),
            path => reply("200 OK", "content-type: text/plain\r\n", path),
        }).await;
        let server = Server::start_with(&database, LOCAL).await;
        let api = &server.api;
        let target = api.deploy(texts()).await;
        let body = json!({"documents": [
            {"url": site.url("/a/plain%20one.txt?signature=s3cr3t")},
            {"name": "sent.txt", "content_base64": "c2VudA==", "mime_type": "text/plain"},
            {"url": site.url("/named")},
            {"url": site.url("/extended")},
            {"url": site.url("/named"), "name": "x/mine.txt", "mime_type": "text/csv"},
            {"url": site.url("/folder/")},
        ]});
        let by_json = outputs(api, &target, api.submit(&target, &body).await).await;
        assert_eq!(by_json, [
            json!(["plain one.txt", "text/plain", "/a/plain%20one.txt?signature=s3cr3t"]),
            json!(["sent.txt", "text/plain", "sent"]),
            json!(["na\"me.txt", "text/plain", "named"]),
            json!(["€.txt", "text/plain", "extended"]),
            json!(["mine.txt", "text/csv", "named"]),
            json!(["document-6", "text/plain", "/folder/"]),
        ]);
        for asked in site.asked() {
            assert_eq!((asked.method.as_str(), &asked.headers["accept-encoding"]), ("GET", &"identity".to_owned()));
            assert!(asked.body.is_empty() && !asked.headers.contains_key("authorization"));
        }
        // Files first, then the URLs; an empty one is none.
        let parts = [
            field("presigned_urls", &site.url("/one.txt")),
            field("presigned_urls", ""),
            file("sent.txt", "sent"),
            field("presigned_urls", &site.url("/two.txt")),
        ];
        let by_form = outputs(api, &target, send_form(api, &target, &parts).await).await;
        let names: Vec<_> = by_form.iter().map(|output| output[0].clone()).collect();
        assert_eq!(names, ["sent.txt", "one.txt", "two.txt"]);
        server.stop().await;
    }
}

on_each_database! {
    async fn what_cannot_be_fetched_is_refused_with_its_place_and_leaves_nothing(database) {
        let site = Site::start("127.0.0.1:0", |asked: &Asked| match asked.path.as_str() {
            "/missing" => reply("404 Not Found", "", "canary"),
            "/broken" => reply("500 Internal Server Error", "", "canary"),
            "/declared" => Reply::Half(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n".to_vec()),
            "/endless" => Reply::Raw([&b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n"[..], &[b'x'; 200_000]].concat()),
            "/short" => Reply::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\ncut".to_vec()),
            "/nonsense" => Reply::Raw(b"canary\r\n\r\n".to_vec()),
            "/slow" => silence(),
            "/stalled" => Reply::Half(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nsome".to_vec()),
            "/nowhere" => reply("302 Found", "", ""),
            _ => reply("200 OK", "", "fine"),
        }).await;
        let away = Site::start("127.0.0.1:0", |_: &Asked| silence()).await.url("/x");
        let settings = format!("{LOCAL}[fetch]\nidle_seconds = 1\n");
        let server = Server::start_with(&database, &settings).await;
        let api = &server.api;
        let key = api.organisation(ORG).await;
        let limits = json!({"max_file_bytes": 100_000, "max_files": 3, "allowed_mime_types": ["text/*"]});
        let target = api.deploy_in(ORG, &key, "demo", echo(), limits).await;
        for (url, status, code) in [
            (site.url("/missing"), 422, "document_unavailable"),
            (site.url("/broken"), 422, "document_unavailable"),
            (site.url("/declared"), 413, "document_too_large"),
            (site.url("/endless"), 413, "document_too_large"),
            (site.url("/short"), 422, "document_unavailable"),
            (site.url("/nonsense"), 422, "document_unavailable"),
            (site.url("/slow"), 422, "document_unavailable"),
            (site.url("/stalled"), 422, "document_unavailable"),
            (site.url("/nowhere"), 422, "document_unavailable"),
            (away, 422, "document_unavailable"),
            (site.url("/x").replace("http:", "https:"), 422, "document_unavailable"),
            ("https://nowhere.invalid/x".into(), 422, "document_unavailable"),
            ("http://10.0.0.1/x".into(), 422, "blocked_destination"),
            ("ftp://127.0.0.1/x".into(), 400, "invalid_value"),
            ("https://user:password@127.0.0.1/x".into(), 400, "invalid_value"),
            ("x".repeat(9000), 400, "invalid_value"),
        ] {
            let body = json!({"documents": [{"url": site.url("/fine.txt")}, {"url": url}]});
            let refused = refusal(api.submit(&target, &body).await, status, code).await;
            assert_eq!(places(&refused), ["documents[1].url"], "{url}");
            assert!(!refused.to_string().contains("canary") && !refused.to_string().contains("127.0.0.1"), "{refused}");
            let parts = [field("presigned_urls", &site.url("/fine.txt")), field("presigned_urls", &url)];
            let refused = refusal(send_form(api, &target, &parts).await, status, code).await;
            assert_eq!(places(&refused), ["presigned_urls[1]"], "{url}");
        }
        for (document, place) in [
            (json!({}), "documents[0].content_base64"),
            (json!({"url": "https://h/", "content_base64": "", "name": "a"}), "documents[0]"),
            (json!({"url": 1}), "documents[0].url"),
        ] {
            let answer = api.submit(&target, &json!({"documents": [document]})).await;
            assert_eq!(places(&refusal(answer, 400, "invalid_value").await), [place]);
        }
        let many: Vec<_> = (0..4).map(|_| json!({"url": site.url("/fine.txt")})).collect();
        refusal(api.submit(&target, &json!({"documents": many})).await, 413, "payload_too_large").await;
        let many: Vec<_> = (0..4).map(|_| field("presigned_urls", &site.url("/fine.txt"))).collect();
        refusal(send_form(api, &target, &many).await, 413, "payload_too_large").await;
        no_upload_is_left(&database).await;
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_within_bounds_and_never_out_of_tls() {
    let database = Database::sqlite();
    let authority = Authority::of(&["docs.test", "other.test"], database.folder.path());
    let plain = Site::start("127.0.0.1:0", |_: &Asked| reply("200 OK", "", "plain")).await;
    let unsafe_url = plain.url("/x");
    let site = Site::secure("127.0.0.1:0", &authority, move |asked: &Asked| {
        let to = |status: &str, place: &str| reply(status, &format!("location: {place}\r\n"), "");
        match asked.path.split_at(1).1 {
            "moved" => to("301 Moved Permanently", "/found"),
            "found" => to("302 Found", "see"),
            "see" => to("303 See Other", "?temporary"),
            "?temporary" | "see?temporary" => to("307 Temporary Redirect", "/permanent"),
            "permanent" => to("308 Permanent Redirect", "/end.txt"),
            "six" => to("302 Found", "/moved"),
            "loop" => to("302 Found", "/loop"),
            "plain" => to("302 Found", &unsafe_url),
            "password" => to("302 Found", "//user:password@docs.test/end.txt"),
            "file" => to("302 Found", "file:///etc/passwd"),
            _ => reply("200 OK", "content-type: text/plain\r\n", "end"),
        }
    })
    .await;
    let loopback = vec!["127.0.0.1".parse().unwrap()];
    let names = Names([("docs.test", loopback.clone()), ("untrusted.test", loopback)].into());
    let mut config = database.config(LOCAL);
    config.outbound.extra_ca_file = authority.file.clone();
    config.outbound.resolver = Resolver(Arc::new(names));
    let server = Server::start_config(config).await;
    let (api, port) = (&server.api, site.address.port());
    let target = api.deploy(texts()).await;
    let url = |path: &str| format!("https://docs.test:{port}/{path}");
    let fetched = outputs(api, &target, api.submit(&target, &linked(&url("moved"))).await).await;
    // It is called what it was asked for as.
    assert_eq!(fetched, [json!(["moved", "text/plain", "end"])]);
    for (path, code) in [
        ("six", "document_unavailable"),
        ("loop", "document_unavailable"),
        ("plain", "blocked_destination"),
        ("password", "blocked_destination"),
        ("file", "blocked_destination"),
    ] {
        refusal(api.submit(&target, &linked(&url(path))).await, 422, code).await;
    }
    let untrusted = format!("https://untrusted.test:{port}/x");
    let refused =
        refusal(api.submit(&target, &linked(&untrusted)).await, 422, "document_unavailable");
    let refused = refused.await;
    assert!(refused.to_string().contains("safe connection"), "{refused}");
    assert_eq!(plain.connections(), 0);
    server.stop().await;
}

on_each_database! {
    async fn a_transfer_ends_with_the_caller_who_goes_away(database) {
        let site = Site::start("127.0.0.1:0", |asked: &Asked| match asked.path.as_str() {
            "/silent" => silence(),
            _ => Reply::Half(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nsome".to_vec()),
        }).await;
        // Nothing but the caller ends a transfer in the time of this test.
        let settings = format!("{LOCAL}[fetch]\nidle_seconds = 600\ndocument_seconds = 600\n");
        let server = Server::start_with(&database, &settings).await;
        let target = server.api.deploy(echo()).await;
        let body = json!({"documents": [{"url": site.url("/silent")}, {"url": site.url("/half")}]}).to_string();
        let mut caller = connect(&server.api).await;
        let head = format!(
            "POST /deployment/{}/ HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            target.public_id, target.key, body.len());
        caller.write_all(head.as_bytes()).await.unwrap();
        caller.write_all(body.as_bytes()).await.unwrap();
        site.hears(2).await;
        // A reset: who only says that no more is to come may still read.
        caller.set_zero_linger().unwrap();
        drop(caller);
        site.is_left(2).await;
        no_upload_is_left(&database).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn a_submission_is_the_same_by_its_urls_whatever_stands_there(database) {
        let served = std::sync::atomic::AtomicUsize::new(0);
        let site = Site::start("127.0.0.1:0", move |_: &Asked| {
            let count = served.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            reply("200 OK", "content-type: text/plain\r\n", format!("version {count}"))
        }).await;
        let server = Server::start_with(&database, LOCAL).await;
        let api = &server.api;
        let target = api.deploy(echo()).await;
        let path = format!("/deployment/{}/", target.public_id);
        let send = |body: Value| {
            api.post(&path, &target.key).header("idempotency-key", "k").json(&body).send()
        };
        let first = json_of(send(linked(&site.url("/a"))).await.unwrap(), 202).await;
        let again = send(linked(&site.url("/a"))).await.unwrap();
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        assert_eq!(json_of(again, 202).await["execution_id"], first["execution_id"]);
        refusal(send(linked(&site.url("/b"))).await.unwrap(), 422, "idempotency_mismatch").await;
        server.stop().await;
    }
}
