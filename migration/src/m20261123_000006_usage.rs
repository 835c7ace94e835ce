//! What callers used: counters that only ever grow, and which node has added
//! what to them.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{big_integer, integer, pk_uuid, string_len, uuid};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000006_usage"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(usage_counters()).await?;
        manager.create_table(usage_flushes()).await?;
        // What is removed is found by its age alone.
        let aged = Index::create()
            .name("usage_counters_age")
            .table("usage_counters")
            .col("span")
            .col("start")
            .to_owned();
        manager.create_index(aged).await
    }
}

fn usage_counters() -> TableCreateStatement {
    Table::create()
        .table("usage_counters")
        .col(uuid("deployment_id"))
        .col(integer("span"))
        .col(big_integer("start"))
        .col(uuid("key_id"))
        .col(string_len("name", 96))
        .col(big_integer("value"))
        .primary_key(
            Index::create().col("deployment_id").col("span").col("start").col("key_id").col("name"),
        )
        .to_owned()
}

fn usage_flushes() -> TableCreateStatement {
    Table::create()
        .table("usage_flushes")
        .col(pk_uuid("node"))
        .col(big_integer("sequence"))
        .col(big_integer("at"))
        .to_owned()
}
