//! No form of an address leads inside, through no entry: traps on addresses of
//! this machine count who comes.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use millrace::outbound::{Lookup, Resolver};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Value, json};

use crate::forms::{self, Form, LOOPBACK};
use crate::site::{Asked, Site, reply};
use crate::support::{Api, Database, ORG, Server, Target, json_of};
use crate::webhook_receiver::SECRET;
use crate::wire::{FORM, call, echo, field, form, managed};

/// Stands for the public Internet: the operator allows it.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 77, 0, 1);

const ALLOWED: &str = "[outbound]\nallowed_networks = [\"127.77.0.0/16\"]\n\
    [webhooks]\nretry_seconds = []\n";

/// Forms that are tried at once.
const LANES: usize = 8;

/// Leads names inside: some always, one the second time, one beside an
/// address of the outside.
#[derive(Debug, Default)]
struct Misleading {
    asked: AtomicUsize,
}

#[async_trait]
impl Lookup for Misleading {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let inside: IpAddr = LOOPBACK[0].into();
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(match name.trim_end_matches('.') {
            "rebind.test" if asked.is_multiple_of(2) => vec![OUTSIDE.into()],
            "mixed.test" => vec![inside, OUTSIDE.into(), "::1".parse().unwrap()],
            "private.test" => vec!["10.0.0.1".parse().unwrap()],
            name if name.contains("metadata") || name == "instance-data" => {
                vec!["169.254.169.254".parse().unwrap()]
            }
            "example.com" => return Err(io::ErrorKind::NotFound.into()),
            _ => vec![inside, "::1".parse().unwrap()],
        })
    }
}

/// Listeners on one port of addresses of the inside, and of the outside.
struct Traps {
    inside: Vec<Site>,
    outside: Site,
    port: u16,
}

impl Traps {
    async fn set() -> Self {
        let first = Site::start("127.0.0.1:0", trap).await;
        let port = first.address.port();
        let mut inside = vec![first];
        for address in &LOOPBACK[1..] {
            inside.push(Site::start(&format!("{address}:{port}"), trap).await);
        }
        inside.push(Site::start(&format!("[::1]:{port}"), trap).await);
        // It sends whoever comes where the path says.
        let outside = Site::start(&format!("{OUTSIDE}:{port}"), |asked: &Asked| {
            let Some((status, to)) = asked.path[1..].split_once('/') else {
                return reply("200 OK", "", "{}");
            };
            let to = String::from_utf8(percent_decode_str(to).collect()).unwrap();
            reply(&format!("{status} Redirect"), &format!("location: {to}\r\n"), "")
        })
        .await;
        Self { inside, outside, port }
    }

    fn caught(&self) -> usize {
        self.inside.iter().map(Site::connections).sum()
    }

    fn forms(&self) -> Vec<Form> {
        [forms::all("http", self.port), forms::all("https", self.port)].concat()
    }
}

fn trap(_: &Asked) -> crate::site::Reply {
    reply("200 OK", "", "{}")
}

async fn start(database: &Database, changes: &str) -> (Server, String) {
    let mut config = database.config(changes);
    config.outbound.resolver = Resolver(Arc::new(Misleading::default()));
    let server = Server::start_config(config).await;
    let key = server.api.organisation(ORG).await;
    (server, key)
}

/// Tries every form, several at once.
async fn each<F: Future<Output = ()>>(forms: &[Form], attempt: impl Fn(usize, String) -> F) {
    let lanes = (0..LANES).map(|lane| {
        let mine = forms.iter().skip(lane).step_by(LANES);
        let attempt = &attempt;
        async move {
            for form in mine {
                attempt(lane, form.url.clone()).await;
            }
        }
    });
    stream::iter(lanes).buffer_unordered(LANES).collect::<Vec<()>>().await;
}

/// A submission is refused for one of its documents' URLs, unless the outside
/// had a document.
async fn submitted(answer: reqwest::Response, url: &str) {
    let status = answer.status().as_u16();
    let body: Value = answer.json().await.unwrap();
    let code = body["errors"][0]["code"].as_str().unwrap_or_default();
    let is_refused =
        ["invalid_value", "blocked_destination", "document_unavailable"].contains(&code);
    let leads_outside = url.contains("rebind.test") || url.contains("mixed.test");
    // An empty field of a form is none.
    assert!(is_refused || leads_outside || url.trim().is_empty(), "{url:?}: {status} {body}");
}

async fn by_json(api: &Api, target: &Target, url: String) {
    submitted(api.submit(target, &json!({"documents": [{"url": url}]})).await, &url).await;
}

async fn by_form(api: &Api, target: &Target, url: String) {
    let path = format!("/deployment/{}/", target.public_id);
    let request = api.post(&path, &target.key).header("content-type", FORM);
    let answer = request.body(form(&[field("presigned_urls", &url)])).send().await.unwrap();
    submitted(answer, &url).await;
}

/// Runs an execution to its end; its error.
async fn run(api: &Api, target: &Target, body: &Value) -> Value {
    let id = api.accepted(target, body).await;
    api.ended(target, &id).await
}

/// A way in whose address is that of a stored connection.
struct Entry {
    name: &'static str,
    /// The connection that leads to a URL.
    connection: fn(&str) -> Value,
    /// The steps that use the connection of this name.
    steps: fn(&str) -> Value,
    /// The settings that use it.
    settings: fn(&str) -> Value,
}

/// One test for each way in.
macro_rules! entries {
    ($($test:ident: $entry:expr;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $test() {
                no_form_leads_inside(&$entry).await;
            }
        )*
    };
}

// A new way in is one entry here.
entries! {
    no_connection_of_the_step_http_leads_inside: Entry {
        name: "http",
        connection: |url| json!({"kind": "http", "base_url": url}),
        steps: |name| json!([{"uses": "http", "with": {"connection": name}}]),
        settings: |_| json!({"retry": {"attempts": 1}}),
    };
    no_webhook_leads_inside: Entry {
        name: "webhook",
        connection: |url| json!({"kind": "http", "base_url": url, "signing_secrets": [SECRET]}),
        steps: |_| echo(),
        settings: |name| json!({"webhook": {"connection": name}}),
    };
}

async fn no_form_leads_inside(entry: &Entry) {
    let (database, traps) = (Database::sqlite(), Traps::set().await);
    let (server, key) = start(&database, ALLOWED).await;
    let api = &server.api;
    let mut lanes = Vec::new();
    for number in 0..LANES {
        lanes.push(Lane::of(entry, number, api, &key).await);
    }
    let forms = forms::all("http", traps.port);
    assert!(forms.len() >= 300, "{}", forms.len());
    let (lanes, key) = (&lanes, key.as_str());
    each(&forms, |lane, url| async move {
        lanes[lane].attempt(entry, api, key, &url).await;
    })
    .await;
    assert_eq!(traps.caught(), 0);
    server.stop().await;
}

/// A connection and a deployment that uses it.
struct Lane {
    name: String,
    path: String,
    target: Target,
}

impl Lane {
    async fn of(entry: &Entry, number: usize, api: &Api, key: &str) -> Self {
        let name = format!("{}-{number}", entry.name);
        let mut write = (entry.connection)("https://example.com/");
        write["name"] = name.as_str().into();
        let made = call(api, Method::POST, &managed("connection/"), key, &write).await;
        let id = json_of(made, 201).await["id"].as_str().unwrap().to_owned();
        let settings = (entry.settings)(&name);
        let target = api.deploy_in(ORG, key, &name, (entry.steps)(&name), settings).await;
        Self { name, path: managed(&format!("connection/{id}/")), target }
    }

    /// Leads the connection to the URL and uses it. A connection that cannot
    /// be written leads nowhere.
    async fn attempt(&self, entry: &Entry, api: &Api, key: &str, url: &str) {
        let mut write = (entry.connection)(url);
        write["name"] = self.name.as_str().into();
        let written = call(api, Method::PUT, &self.path, key, &write).await;
        if written.status() != 200 {
            assert_eq!(written.status(), 400, "{url:?}");
            return;
        }
        let id = api.accepted(&self.target, &json!({"input_data": 1})).await;
        let ended = api.ended(&self.target, &id).await;
        if entry.name == "webhook" {
            told(api, key, &id).await;
        } else {
            let leads_outside = url.contains("rebind.test") || url.contains("mixed.test");
            assert!(ended["status"] == "ERROR" || leads_outside, "{url:?}: {ended}");
        }
    }
}

/// Waits until the one attempt to tell of an execution's end is over.
async fn told(api: &Api, key: &str, execution: &str) {
    let path = managed(&format!("webhook-delivery/?execution={execution}"));
    let ended = async {
        loop {
            let list = json_of(api.get(&path, key).send().await.unwrap(), 200).await;
            if list["results"][0]["state"] != "pending" {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, ended).await.expect("the attempt ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_url_of_a_document_leads_inside_in_any_form() {
    let (database, traps) = (Database::sqlite(), Traps::set().await);
    let (server, key) = start(&database, ALLOWED).await;
    let target = server.api.deploy_in(ORG, &key, "demo", echo(), json!({})).await;
    each(&traps.forms(), |_, url| by_json(&server.api, &target, url)).await;
    assert_eq!(traps.caught(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_presigned_url_leads_inside_in_any_form() {
    let (database, traps) = (Database::sqlite(), Traps::set().await);
    let (server, key) = start(&database, ALLOWED).await;
    let target = server.api.deploy_in(ORG, &key, "demo", echo(), json!({})).await;
    each(&traps.forms(), |_, url| by_form(&server.api, &target, url)).await;
    assert_eq!(traps.caught(), 0);
    server.stop().await;
}

/// Each form as the place of a redirect, of each kind in turn.
#[tokio::test(flavor = "multi_thread")]
async fn no_redirect_of_a_document_leads_inside() {
    let (database, traps) = (Database::sqlite(), Traps::set().await);
    let (server, key) = start(&database, ALLOWED).await;
    let target = server.api.deploy_in(ORG, &key, "demo", echo(), json!({})).await;
    let statuses = [301, 302, 303, 307, 308];
    let redirect = |(form, status): (&Form, u16)| {
        let to = form.url.replace(['\t', '\n'], "");
        let to = utf8_percent_encode(&to, NON_ALPHANUMERIC);
        Form { url: traps.outside.url(&format!("/{status}/{to}")), is_loopback: false }
    };
    let forms = traps.forms();
    let redirects: Vec<_> = forms.iter().zip(statuses.into_iter().cycle()).map(redirect).collect();
    let (api, target) = (&server.api, &target);
    // One that is relative leads back to the outside, which has documents.
    each(&redirects, |_, url| async move {
        drop(api.submit(target, &json!({"documents": [{"url": url}]})).await);
    })
    .await;
    assert!(traps.outside.connections() >= redirects.len(), "they are redirected");
    assert_eq!(traps.caught(), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_url_of_a_step_leads_inside_in_any_form() {
    let (database, traps) = (Database::sqlite(), Traps::set().await);
    let (server, key) = start(&database, ALLOWED).await;
    let api = &server.api;
    let steps = json!([{"uses": "http", "with": {"url": "{{ input }}"}}]);
    let target = api.deploy_in(ORG, &key, "demo", steps, json!({"retry": {"attempts": 1}})).await;
    each(&traps.forms(), |_, url| {
        let target = &target;
        async move {
            let ended = run(api, target, &json!({"input_data": url})).await;
            let leads_outside = url.contains("rebind.test") || url.contains("mixed.test");
            assert!(ended["status"] == "ERROR" || leads_outside, "{url:?}: {ended}");
        }
    })
    .await;
    // It is told of a redirect and does not follow it.
    for status in [301, 302, 303, 305, 307, 308] {
        let to = format!("/{status}/http%3A%2F%2F127%2E0%2E0%2E1%3A{}%2Fx", traps.port);
        let ended = run(api, &target, &json!({"input_data": traps.outside.url(&to)})).await;
        assert!(ended.to_string().contains("http_refused"), "{ended}");
    }
    assert_eq!(traps.caught(), 0);
    server.stop().await;
}

/// The forms do name the traps: where the operator allows it, they are caught.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_forms_lead_to_the_traps_where_the_operator_allows_it() {
    let (database, traps) = (Database::sqlite(), Traps::set().await);
    let (server, key) =
        start(&database, "[outbound]\nallowed_networks = [\"127.0.0.0/8\", \"::1/128\"]\n").await;
    let api = &server.api;
    let target = api.deploy_in(ORG, &key, "demo", echo(), json!({})).await;
    let plain: Vec<_> =
        forms::all("http", traps.port).into_iter().filter(|form| form.is_loopback).collect();
    each(&plain, |_, url| {
        let target = &target;
        async move {
            let answer = api.submit(target, &json!({"documents": [{"url": url}]})).await;
            assert_eq!(answer.status(), 202, "{url:?}: {}", answer.text().await.unwrap());
        }
    })
    .await;
    assert_eq!(traps.caught(), plain.len());
    assert!(plain.len() >= 60, "{}", plain.len());
    server.stop().await;
}
