//! Servers that share one Postgres hear of each other's changes.

use std::time::Instant;

use reqwest::Method;
use sea_orm::{ActiveModelTrait, EntityTrait};
use serde_json::{Value, json};

use crate::support::{Api, Database, PATIENCE, Server, Target, json_of, on_each_database};
use crate::wire::{call, echo, managed};

/// Calls until `reached` says that the change has come through, and prints how
/// long that took.
async fn comes_through(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    let coming = async { while !reached().await {} };
    tokio::time::timeout(PATIENCE, coming).await.expect("the change comes through");
    println!("{what}: {} ms", start.elapsed().as_millis());
}

async fn submits(api: &Api, target: &Target) -> u16 {
    api.submit(target, &json!({"input_data": 1})).await.status().as_u16()
}

async fn lists(api: &Api, key: &str) -> u16 {
    api.get(&managed("workflow/"), key).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_managed_through_one_node_holds_on_the_others_in_postgres() {
    let Some(database) = Database::postgres().await else {
        println!("skipped: two nodes need Postgres");
        return;
    };
    let (a, b) = (Server::start(&database).await, Server::start(&database).await);
    let (here, there) = (&a.api, &b.api);

    // All that A makes is new to B: organisation, workflow, deployment, keys.
    let target = here.deploy(echo()).await;
    comes_through("a new deployment serves", async || submits(there, &target).await == 202).await;
    let key = target.platform_key.as_str();
    comes_through("a new platform key opens", async || lists(there, key).await == 200).await;

    let deployment = managed(&format!("api-deployment/{}/", target.id));
    let limit = json!({"rate_limit": {"requests": 1, "per_seconds": 3600, "burst": 7}});
    assert_eq!(call(here, Method::PATCH, &deployment, key, &limit).await.status(), 200);
    let limited = async || {
        let answer = there.submit(&target, &json!({"input_data": 1})).await;
        answer.headers()["ratelimit-limit"] == "7"
    };
    comes_through("a changed rate limit holds", limited).await;

    let keys = format!("{deployment}key/");
    let made = json_of(call(here, Method::POST, &keys, key, &json!({})).await, 201).await;
    let second = Target { key: made["api_key"].as_str().unwrap().into(), ..target.clone() };
    comes_through("a new key opens", async || submits(there, &second).await != 401).await;
    let path = format!("{keys}{}/", made["id"].as_str().unwrap());
    assert_eq!(call(here, Method::DELETE, &path, key, &Value::Null).await.status(), 204);
    comes_through("a revoked key is closed", async || submits(there, &second).await == 401).await;

    let write = json!({"name": "other", "tier": "read"});
    let made =
        json_of(call(here, Method::POST, &managed("platform-key/"), key, &write).await, 201).await;
    let other = made["platform_key"].as_str().unwrap();
    comes_through("a second platform key opens", async || lists(there, other).await == 200).await;
    let path = managed(&format!("platform-key/{}/", made["id"].as_str().unwrap()));
    assert_eq!(call(here, Method::DELETE, &path, key, &Value::Null).await.status(), 204);
    comes_through("a revoked platform key is closed", async || lists(there, other).await == 401)
        .await;

    // And the other way round.
    assert_eq!(call(there, Method::DELETE, &deployment, key, &Value::Null).await.status(), 204);
    comes_through("a deleted deployment is closed", async || submits(here, &target).await == 401)
        .await;
    a.stop().await;
    b.stop().await;
}

on_each_database! {
    async fn a_change_that_did_not_reach_the_directory_is_brought_into_force(database) {
        let server = Server::start(&database).await;
        let target = server.api.deploy(echo()).await;
        let store = server.engine.store();
        let owner = store.organisation("acme").await.unwrap().id;
        let deployment = store.deployment(owner, target.id.parse().unwrap()).await.unwrap();
        let page = millrace::store::page::Page { index: 0, size: 10 };
        let key = store.api_keys(deployment.id, page).await.unwrap().rows.remove(0);
        // As if the caller had gone away between the commit and the directory.
        let subject = millrace::engine::audit::Subject {
            organisation_id: Some(owner), resource: "key", id: key.id, name: &key.prefix,
        };
        let author = millrace::engine::audit::Author::server();
        let entry = author.entry(millrace::engine::audit::Action::Revoke, subject, &[]);
        store.revoke_api_key(deployment.id, key.id, entry).await.unwrap();
        comes_through("a torn revocation holds", async || submits(&server.api, &target).await == 401).await;
        server.stop().await;
    }
}

on_each_database! {
    async fn a_node_that_is_too_far_behind_reads_everything_anew(database) {
        use millrace_entities::{change, change_counter, deployment, api_key, platform_key};
        let server = Server::start(&database).await;
        let target = server.api.deploy(echo()).await;
        assert_eq!(submits(&server.api, &target).await, 202);
        // All is deleted and another change is announced; those between are not there any more.
        let torn = server.engine.store().write(|tx| Box::pin(async move {
            api_key::Entity::delete_many().exec(tx).await?;
            deployment::Entity::delete_many().exec(tx).await?;
            platform_key::Entity::delete_many().exec(tx).await?;
            let counter = change_counter::Entity::find_by_id(1).one(tx).await?.unwrap();
            let id = counter.value + 100;
            let kind = millrace_entities::enums::ChangeKind::Deployment;
            let row = change::Model { id, kind, resource_id: uuid::Uuid::nil() };
            change::Entity::insert(change::ActiveModel::from(row)).exec_without_returning(tx).await?;
            let counter = change_counter::ActiveModel::from(change_counter::Model { value: id, ..counter });
            change_counter::Entity::update(counter.reset_all()).exec(tx).await?;
            Ok(())
        }));
        torn.await.unwrap();
        comes_through("a key that is gone is closed", async || submits(&server.api, &target).await == 401).await;
        let key = target.platform_key.as_str();
        comes_through("a platform key that is gone is closed", async || lists(&server.api, key).await == 401).await;
        server.stop().await;
    }
}
