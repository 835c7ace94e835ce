//! What operators and organisations manage: organisations, keys, workflows,
//! deployments and their revisions.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    binary_len_uniq, boolean, integer, pk_uuid, string, string_len, string_uniq, text,
    timestamp_with_time_zone, timestamp_with_time_zone_null, uuid,
};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000001_management"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(settings()).await?;
        manager.create_table(organisations()).await?;
        manager.create_table(platform_keys()).await?;
        manager.create_table(workflows()).await?;
        manager.create_table(deployments()).await?;
        manager.create_table(deployment_revisions()).await?;
        manager.create_table(api_keys()).await?;
        for (table, owner, name) in [
            ("workflows", "organisation_id", "name"),
            ("deployments", "organisation_id", "api_name"),
        ] {
            let index = Index::create()
                .name(format!("{table}_{owner}_{name}"))
                .table(table)
                .col(owner)
                .col(name)
                .unique()
                .to_owned();
            manager.create_index(index).await?;
        }
        for (table, column) in [
            ("platform_keys", "organisation_id"),
            ("deployments", "workflow_id"),
            ("api_keys", "deployment_id"),
        ] {
            let index = Index::create()
                .name(format!("{table}_{column}"))
                .table(table)
                .col(column)
                .to_owned();
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn reference(
    from: &'static str,
    column: &'static str,
    to: &'static str,
) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("{from}_{column}_fk"))
        .from(from, column)
        .to(to, "id")
        .on_delete(ForeignKeyAction::Restrict)
        .to_owned()
}

fn settings() -> TableCreateStatement {
    Table::create()
        .table("settings")
        .col(string_len("name", 64).primary_key().to_owned())
        .col(text("value"))
        .to_owned()
}

fn organisations() -> TableCreateStatement {
    Table::create()
        .table("organisations")
        .col(pk_uuid("id"))
        .col(string_uniq("slug"))
        .col(string("name"))
        .col(timestamp_with_time_zone("created_at"))
        .to_owned()
}

fn platform_keys() -> TableCreateStatement {
    Table::create()
        .table("platform_keys")
        .col(pk_uuid("id"))
        .col(uuid("organisation_id"))
        .col(binary_len_uniq("hash", 32))
        .col(string_len("prefix", 16))
        .col(string_len("last_four", 4))
        .col(string("name"))
        .col(string_len("tier", 16))
        .col(boolean("is_active"))
        .col(timestamp_with_time_zone_null("expires_at"))
        .col(timestamp_with_time_zone("created_at"))
        .foreign_key(&mut reference("platform_keys", "organisation_id", "organisations"))
        .to_owned()
}

fn workflows() -> TableCreateStatement {
    Table::create()
        .table("workflows")
        .col(pk_uuid("id"))
        .col(uuid("organisation_id"))
        .col(string("name"))
        .col(string_len("kind", 8))
        .col(text("description"))
        .col(text("steps"))
        .col(integer("revision"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .foreign_key(&mut reference("workflows", "organisation_id", "organisations"))
        .to_owned()
}

fn deployments() -> TableCreateStatement {
    Table::create()
        .table("deployments")
        .col(pk_uuid("id"))
        .col(uuid("organisation_id"))
        .col(uuid("workflow_id"))
        .col(string_uniq("public_id"))
        .col(string_len("api_name", 64))
        .col(string("display_name"))
        .col(text("description"))
        .col(text("settings"))
        .col(integer("revision"))
        .col(boolean("is_active"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .foreign_key(&mut reference("deployments", "organisation_id", "organisations"))
        .foreign_key(&mut reference("deployments", "workflow_id", "workflows"))
        .to_owned()
}

/// No reference to the deployment: a revision outlives it while an execution
/// still runs on it.
fn deployment_revisions() -> TableCreateStatement {
    Table::create()
        .table("deployment_revisions")
        .col(uuid("deployment_id"))
        .col(integer("revision"))
        .col(string_len("kind", 8))
        .col(uuid("workflow_id"))
        .col(text("steps"))
        .col(text("settings"))
        .col(timestamp_with_time_zone("created_at"))
        .primary_key(Index::create().col("deployment_id").col("revision"))
        .to_owned()
}

fn api_keys() -> TableCreateStatement {
    Table::create()
        .table("api_keys")
        .col(pk_uuid("id"))
        .col(uuid("deployment_id"))
        .col(binary_len_uniq("hash", 32))
        .col(string_len("prefix", 16))
        .col(string_len("last_four", 4))
        .col(string("description"))
        .col(boolean("is_active"))
        .col(timestamp_with_time_zone_null("expires_at"))
        .col(timestamp_with_time_zone("created_at"))
        .foreign_key(&mut reference("api_keys", "deployment_id", "deployments"))
        .to_owned()
}
