//! What an organisation finds its executions by: their tags, and the
//! deployments that are gone.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{pk_uuid, string_len, timestamp_with_time_zone, uuid};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000008_history"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(execution_tags()).await?;
        let found = Index::create()
            .name("execution_tags_tag")
            .table("execution_tags")
            .col("organisation_id")
            .col("tag")
            .col("execution_id")
            .to_owned();
        manager.create_index(found).await?;
        manager.create_table(former_deployments()).await?;
        let listed = Index::create()
            .name("former_deployments_organisation")
            .table("former_deployments")
            .col("organisation_id")
            .to_owned();
        manager.create_index(listed).await
    }
}

/// Only executions with tags cost rows here, so it may carry two indexes.
fn execution_tags() -> TableCreateStatement {
    Table::create()
        .table("execution_tags")
        .col(uuid("execution_id"))
        .col(string_len("tag", 128))
        .col(uuid("organisation_id"))
        .primary_key(Index::create().col("execution_id").col("tag"))
        .to_owned()
}

fn former_deployments() -> TableCreateStatement {
    Table::create()
        .table("former_deployments")
        .col(pk_uuid("id"))
        .col(uuid("organisation_id"))
        .col(string_len("api_name", 64))
        .col(timestamp_with_time_zone("deleted_at"))
        .to_owned()
}
