//! What is not yours is answered like what is not there.
//!
//! The calls are made from the OpenAPI document: every route, by every kind
//! of caller, once with what belongs to somebody else and once with what
//! belongs to nobody. A route or a part of a path that this table does not
//! know fails the test.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use millrace::engine::audit::Author;
use millrace::engine::manage::platform_keys::PlatformKeyDraft;
use millrace::ids::{self, Key, KeyKind};
use millrace_entities::enums::Tier;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{Api, OPERATOR, ORG, Server, Target, json_of, on_each_database};
use crate::wire::{call, delivery, echo, platform_key};

const OTHER_ORG: &str = "other";

/// Within what a part of a path names one thing.
#[derive(Clone, Copy, PartialEq)]
enum Scope {
    Organisation,
    Deployment,
}

/// One deployment and all that belongs to it or to its organisation.
#[derive(Clone)]
struct World {
    org_id: &'static str,
    target: Target,
    workflow: String,
    key: String,
    execution: String,
    connection: String,
    delivery: String,
    platform_key: String,
}

/// Scope of a part of a path, and its values in a world: the forms it has,
/// which for a deployment are its public id and its key.
fn values(world: &World, before: &str, name: &str) -> (Scope, Vec<String>) {
    let of_organisation = |value: &str| (Scope::Organisation, vec![value.to_owned()]);
    let of_deployment = |value: &str| (Scope::Deployment, vec![value.to_owned()]);
    let target = &world.target;
    match (before, name) {
        ("unstract" | "api" | "organization", "org_id") => of_organisation(world.org_id),
        ("workflow", "id") => of_organisation(&world.workflow),
        ("api-deployment", "id") => of_organisation(&target.id),
        ("connection", "id") => of_organisation(&world.connection),
        ("platform-key", "id") => of_organisation(&world.platform_key),
        ("webhook-delivery", "id") => of_organisation(&world.delivery),
        ("execution", "id") => of_organisation(&world.execution),
        ("{org_id}", "api_name") => of_deployment(&target.api_name),
        ("key", "key_id") => of_deployment(&world.key),
        ("deployment", "api_key") => {
            (Scope::Deployment, vec![target.public_id.clone(), target.key.clone()])
        }
        ("status" | "result" | "cancel" | "events" | "?", "execution_id") => {
            of_deployment(&world.execution)
        }
        other => panic!("{other:?} needs a value in `isolation.rs`"),
    }
}

/// A body that the route takes, with what is the world's own.
fn body(world: &World, method: &Method, path: &str) -> Value {
    if *method == Method::PATCH {
        return json!({"description": "changed"});
    }
    match path.rsplit('/').find(|part| !part.is_empty() && !part.starts_with('{')).unwrap() {
        "workflow" => json!({"name": "new", "type": "TASK", "steps": echo()}),
        "api-deployment" => json!({"api_name": "new", "workflow": world.workflow}),
        "connection" => json!({"name": "new", "kind": "http", "base_url": "https://h"}),
        "key" => json!({"description": "new"}),
        "platform-key" => json!({"name": "new", "tier": "read"}),
        "rotate" | "rerun" => json!({}),
        "deployment" | "api" => json!({"input_data": 1}),
        _ => panic!("{method} {path} needs a body in `isolation.rs`"),
    }
}

/// Somebody who calls: the header, the worlds that they may see at all on
/// routes with this security, first their own.
struct Caller {
    name: String,
    bearer: Option<String>,
    security: &'static str,
    own: Option<usize>,
}

async fn world(server: &Server, platform: &str, org_id: &'static str, name: &str) -> World {
    let api = &server.api;
    let target = api.deploy_in(org_id, platform, name, echo(), json!({})).await;
    let base = format!("/unstract/{org_id}/api/v2");
    let get = async |path: String| {
        json_of(api.get(&format!("{base}/{path}"), platform).send().await.unwrap(), 200).await
    };
    let deployment = get(format!("api-deployment/{}/", target.id)).await;
    let keys = get(format!("api-deployment/{}/key/", target.id)).await;
    let write = json!({"name": name, "kind": "http", "base_url": "https://h.example"});
    let made = call(api, Method::POST, &format!("{base}/connection/"), platform, &write).await;
    let connection = json_of(made, 201).await;
    let execution = api.accepted(&target, &json!({"input_data": name})).await;
    assert_eq!(api.ended(&target, &execution).await["status"], "COMPLETED");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    World {
        org_id,
        workflow: text(&deployment["workflow"]),
        key: text(&keys["results"][0]["id"]),
        execution: execution.clone(),
        connection: text(&connection["id"]),
        delivery: delivery(server, platform, &target.id, &execution).await,
        platform_key: server
            .engine
            .manager(&Key::parse(platform).unwrap())
            .unwrap()
            .key_id
            .to_string(),
        target,
    }
}

/// Two deployments of one organisation and one of another.
async fn worlds(server: &Server) -> Vec<World> {
    let (first, other) =
        (server.api.organisation(ORG).await, server.api.organisation(OTHER_ORG).await);
    vec![
        world(server, &first, ORG, "one").await,
        world(server, &first, ORG, "two").await,
        world(server, &other, OTHER_ORG, "three").await,
    ]
}

async fn callers(server: &Server, worlds: &[World]) -> Vec<Caller> {
    let mut callers = Vec::new();
    let mut add = |name: String, bearer: Option<String>, security, own| {
        callers.push(Caller { name, bearer, security, own });
    };
    add("nobody".into(), None, "", None);
    add("the operator".into(), Some(OPERATOR.into()), "operator_token", None);
    let store = server.engine.store();
    for (index, world) in worlds.iter().enumerate() {
        let name = format!("the key of {}/{}", world.org_id, world.target.api_name);
        add(name, Some(world.target.key.clone()), "deployment_key", Some(index));
    }
    for index in [0, 2] {
        let world = &worlds[index];
        for tier in [Tier::Read, Tier::ReadWrite, Tier::FullAccess] {
            let key = platform_key(&server.engine, &world.target.platform_key, tier).await;
            let name = format!("a platform key of {}, {tier:?}", world.org_id);
            add(name, Some(key), "platform_key", Some(index));
        }
    }
    let owner =
        server.engine.manager(&Key::parse(&worlds[0].target.platform_key).unwrap()).unwrap();
    let id = worlds[0].target.id.parse().unwrap();
    let deployment = store.deployment(owner.organisation_id, id).await.unwrap();
    let author = Author::server();
    let past = Some(Utc::now() - TimeDelta::hours(1));
    let expired = server.engine.create_key(&author, &deployment, "old".into(), past).await.unwrap();
    let (row, revoked) =
        server.engine.create_key(&author, &deployment, "revoked".into(), None).await.unwrap();
    server.engine.revoke_key(&author, &deployment, row.id).await.unwrap();
    add("an expired key".into(), Some(expired.1.reveal().into()), "", None);
    add("a revoked key".into(), Some(revoked.reveal().into()), "", None);
    for (name, is_active, expires_at) in [("expired", true, past), ("inactive", false, None)] {
        let draft = PlatformKeyDraft { name: name.into(), tier: Tier::Read, expires_at, is_active };
        let made = server.engine.create_platform_key(&author, owner.organisation_id, draft).await;
        let (_, key) = made.unwrap();
        add(format!("a platform key, {name}"), Some(key.reveal().into()), "", None);
    }
    callers
}

/// A route of the document, with the parts of it that name something: in the
/// path, and as a query parameter.
struct Route {
    method: Method,
    path: String,
    security: String,
    has_body: bool,
    parts: Vec<(String, String)>,
}

fn routes(document: &Value) -> Vec<Route> {
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let segments: Vec<_> = path.split('/').collect();
            let mut parts: Vec<_> = segments
                .windows(2)
                .filter_map(|pair| {
                    let name = pair[1].strip_prefix('{')?.strip_suffix('}')?;
                    Some((pair[0].to_owned(), name.to_owned()))
                })
                .collect();
            let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
            for parameter in parameters.iter().filter(|one| one["in"] == "query") {
                if parameter["required"] == true {
                    let name = parameter["name"].as_str().unwrap().to_owned();
                    parts.push(("?".to_owned(), name));
                }
            }
            let security = &operation["security"][0];
            let security = security.as_object().and_then(|named| named.keys().next());
            routes.push(Route {
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                security: match security {
                    Some(named) => named.clone(),
                    None if is_documentation(path) => "deployment_key".into(),
                    None => String::new(),
                },
                has_body: operation["requestBody"].is_object(),
                parts,
            });
        }
    }
    routes
}

/// Whoever has a deployment's key may read about it, with or without a bearer.
fn is_documentation(path: &str) -> bool {
    path.starts_with("/deployment/{api_key}/docs/")
}

impl Route {
    /// Its path with these values for its parts.
    fn with(&self, values: &[String]) -> String {
        let mut path = self.path.clone();
        let mut query = String::new();
        for ((before, name), value) in self.parts.iter().zip(values) {
            if before == "?" {
                query = format!("?{name}={value}");
            } else {
                path = path.replacen(&format!("{{{name}}}"), value, 1);
            }
        }
        path + &query
    }

    /// Pairs of values: with what is somebody else's, and with what is
    /// nobody's in its stead. What follows such a part belongs to the same,
    /// or is the caller's own.
    fn pairs(&self, worlds: &[World], nobody: &World, own: Option<usize>) -> Vec<[Vec<String>; 2]> {
        let home = &worlds[own.unwrap_or_default()];
        let mut pairs = Vec::new();
        for (position, (before, name)) in self.parts.iter().enumerate() {
            for world in worlds {
                let (scope, mut forms) = values(world, before, name);
                if is_documentation(&self.path) {
                    // The key in the path is all it takes there.
                    forms.truncate(1);
                }
                let is_own = match scope {
                    Scope::Organisation => world.org_id == home.org_id,
                    Scope::Deployment => world.target.id == home.target.id,
                };
                if own.is_some() && is_own {
                    continue;
                }
                for (form, with_following) in (0..forms.len()).flat_map(|n| [(n, true), (n, false)])
                {
                    let line = |whose: &World| -> Vec<String> {
                        let value = |(index, part)| match index {
                            _ if index < position => one_of(home, part, 0),
                            _ if index == position || with_following => one_of(whose, part, form),
                            _ => one_of(home, part, 0),
                        };
                        self.parts.iter().enumerate().map(value).collect()
                    };
                    pairs.push([line(world), line(nobody)]);
                }
            }
        }
        pairs.sort();
        pairs.dedup();
        pairs
    }
}

/// A part's value in one of its forms; most have only one.
fn one_of(world: &World, (before, name): &(String, String), form: usize) -> String {
    let mut forms = values(world, before, name).1;
    forms.swap_remove(form.min(forms.len() - 1))
}

/// What belongs to nobody, all of it of the right form.
fn nobody() -> World {
    let id = || Uuid::now_v7().to_string();
    World {
        org_id: "nowhere",
        target: Target {
            platform_key: String::new(),
            id: id(),
            public_id: ids::public_id().unwrap(),
            api_name: "none".into(),
            key: Key::generate(KeyKind::Deployment).unwrap().reveal().into(),
        },
        workflow: id(),
        key: id(),
        execution: id(),
        connection: id(),
        delivery: id(),
        platform_key: id(),
    }
}

/// Status, headers and body: all that a caller sees but the time of day. The
/// request id is the caller's own, so that it is the same.
async fn seen(api: &Api, route: &Route, path: &str, bearer: Option<&str>, body: &Value) -> Seen {
    let mut request = api.client.request(route.method.clone(), format!("{}{path}", api.url));
    request = request.header("x-request-id", "isolation");
    if let Some(bearer) = bearer {
        request = request.bearer_auth(bearer);
    }
    if route.has_body {
        request = request.json(body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let headers = answer.headers().iter().filter(|(name, _)| *name != "date");
    let headers = headers.map(|(name, value)| (name.to_string(), format!("{value:?}"))).collect();
    (status, headers, answer.text().await.unwrap())
}

type Seen = (u16, BTreeMap<String, String>, String);

/// Everything that belongs to the worlds, as their own managers see it.
async fn everything(api: &Api, worlds: &[World]) -> Vec<Value> {
    let mut all = Vec::new();
    for world in worlds {
        let base = format!("/unstract/{}/api/v2", world.org_id);
        for path in [
            "workflow/".to_owned(),
            "api-deployment/".to_owned(),
            "connection/".to_owned(),
            format!("api-deployment/{}/key/", world.target.id),
            "webhook-delivery/".to_owned(),
        ] {
            let path = format!("{base}/{path}?page_size=1000");
            let answer = api.get(&path, &world.target.platform_key).send().await.unwrap();
            let mut listed = json_of(answer, 200).await;
            for row in listed["results"].as_array_mut().unwrap() {
                row.as_object_mut().unwrap().remove("last_used_at");
            }
            all.push(listed);
        }
        all.push(api.ended(&world.target, &world.execution).await);
        all.push(api.result(&world.target, &world.execution).await);
    }
    all
}

on_each_database! {
    async fn what_is_not_yours_is_answered_byte_for_byte_like_what_is_not_there(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let document = json_of(api.get("/openapi.json", "").send().await.unwrap(), 200).await;
        let routes = routes(&document);
        let worlds = worlds(&server).await;
        let callers = callers(&server, &worlds).await;
        let before = everything(api, &worlds).await;
        let nobody = nobody();
        let mut compared = 0;
        for caller in &callers {
            for route in &routes {
                // To the operator nothing is foreign on the operator's routes.
                if caller.own.is_none() && caller.security == route.security && !caller.security.is_empty() {
                    continue;
                }
                // On routes that another kind of key opens, nothing is theirs.
                let own = caller.own.filter(|_| caller.security == route.security);
                let home = &worlds[own.unwrap_or_default()];
                let body = if route.has_body && !route.parts.is_empty() {
                    body(home, &route.method, &route.path)
                } else {
                    Value::Null
                };
                for [foreign, missing] in route.pairs(&worlds, &nobody, own) {
                    let bearer = caller.bearer.as_deref();
                    let path = route.with(&foreign);
                    let theirs = seen(api, route, &path, bearer, &body).await;
                    let nobodys = seen(api, route, &route.with(&missing), bearer, &body).await;
                    let call = format!("{} {} by {}: {path}", route.method, route.path, caller.name);
                    assert!([401, 403, 404].contains(&theirs.0), "{call}: {theirs:?}");
                    assert_eq!(theirs, nobodys, "{call}");
                    compared += 1;
                }
            }
        }
        println!("compared {compared} answers of {} routes to {} callers", routes.len(), callers.len());
        assert!(compared > 1000, "{compared}");
        assert_eq!(everything(api, &worlds).await, before, "nothing has changed");
        server.stop().await;
    }
}

on_each_database! {
    async fn a_body_that_names_what_is_not_yours_is_refused_like_one_that_names_nothing(database) {
        let server = Server::start(&database).await;
        let api = &server.api;
        let worlds = worlds(&server).await;
        let path = format!("/unstract/{ORG}/api/v2/api-deployment/");
        let (own, foreign, nobody) = (&worlds[0], &worlds[2], nobody());
        for (method, path) in [
            (Method::POST, path.clone()),
            (Method::PUT, format!("{path}{}/", own.target.id)),
            (Method::PATCH, format!("{path}{}/", own.target.id)),
        ] {
            let mut seen = Vec::new();
            for workflow in [&foreign.workflow, &nobody.workflow] {
                let write = json!({"api_name": "new", "workflow": workflow});
                let request = api.client.request(method.clone(), format!("{}{path}", api.url));
                let request = request.bearer_auth(&own.target.platform_key).json(&write);
                let answer = request.header("x-request-id", "isolation").send().await.unwrap();
                seen.push((answer.status().as_u16(), answer.text().await.unwrap()));
            }
            assert_eq!(seen[0].0, 400, "{seen:?}");
            assert_eq!(seen[0], seen[1]);
        }
        server.stop().await;
    }
}
