//! Every change leaves its entry.

use millrace_entities::audit_entry;
use sea_orm::EntityTrait;
use serde_json::json;

use crate::support::{Server, on_each_database};
use crate::wire::{echo, managed};

on_each_database! {
    /// A change leaves one entry that names its author and the fields, a refused one none.
    async fn a_change_leaves_one_entry_and_a_refused_one_none(database) {
        let server = Server::start(&database).await;
        let target = server.api.deploy(echo()).await;
        let path = managed(&format!("api-deployment/{}/", target.id));
        let change = |body| {
            let api = &server.api;
            let request = api.client.patch(format!("{}{path}", api.url));
            request.bearer_auth(&target.platform_key).header("X-Request-Id", "r-7").json(&body)
        };
        let changed = change(json!({"max_files": 3, "description": "new"})).send().await.unwrap();
        assert_eq!(changed.status(), 200);
        assert_eq!(change(json!({"max_files": 0})).send().await.unwrap().status(), 400);
        let entries = server
            .engine
            .store()
            .read(|db| async move { Ok(audit_entry::Entity::find().all(&db).await?) })
            .await
            .unwrap();
        let told: Vec<_> = entries
            .iter()
            .map(|entry| (entry.author_kind.as_str(), entry.action.as_str(), entry.resource.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                ("operator", "create", "organization"),
                ("platform_key", "create", "workflow"),
                ("platform_key", "create", "api-deployment"),
                ("platform_key", "change", "api-deployment"),
            ]
        );
        let last = &entries[3];
        assert_eq!(last.changed, r#"["description","max_files"]"#);
        assert_eq!(last.request_id.as_deref(), Some("r-7"));
        assert_eq!(last.address.as_deref(), Some("127.0.0.1"));
        assert_eq!(last.author_name, "first key");
    }
}
