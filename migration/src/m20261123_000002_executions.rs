//! What runs: nodes, executions and the recorded outcomes of their steps.
//!
//! These tables take the hot writes, so they carry no foreign keys and as few
//! indexes as their reads allow.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, boolean, integer, pk_uuid, string_len, string_len_null, text, text_null,
    timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000002_executions"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(nodes()).await?;
        manager.create_table(executions()).await?;
        manager.create_table(step_runs()).await?;
        // Recovery looks only at the few rows that have not ended.
        let unfinished = Index::create()
            .name("executions_unfinished")
            .table("executions")
            .col("owner")
            .and_where(Expr::col("status").is_in(["PENDING", "EXECUTING"]))
            .to_owned();
        manager.create_index(unfinished).await?;
        let listed = Index::create()
            .name("executions_deployment")
            .table("executions")
            .col("deployment_id")
            .col("id")
            .to_owned();
        manager.create_index(listed).await
    }
}

fn nodes() -> TableCreateStatement {
    Table::create()
        .table("nodes")
        .col(pk_uuid("id"))
        .col(big_integer("heartbeat_ms"))
        .col(timestamp_with_time_zone("started_at"))
        .to_owned()
}

fn executions() -> TableCreateStatement {
    Table::create()
        .table("executions")
        .col(pk_uuid("id"))
        .col(uuid("organisation_id"))
        .col(uuid("deployment_id"))
        .col(integer("revision"))
        .col(uuid_null("key_id"))
        .col(string_len("status", 16))
        .col(uuid_null("owner"))
        .col(integer("attempt"))
        .col(integer("recoveries"))
        .col(boolean("cancel_requested"))
        .col(text("request"))
        .col(text("documents"))
        .col(integer("documents_total"))
        .col(integer("documents_failed"))
        .col(integer("steps_total"))
        .col(integer("steps_done"))
        .col(text_null("error"))
        .col(text_null("result"))
        .col(string_len_null("result_hash", 64))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone_null("started_at"))
        .col(timestamp_with_time_zone_null("ended_at"))
        .col(timestamp_with_time_zone_null("expires_at"))
        .to_owned()
}

fn step_runs() -> TableCreateStatement {
    Table::create()
        .table("step_runs")
        .col(uuid("execution_id"))
        .col(integer("document_index"))
        .col(integer("step_index"))
        .col(string_len("step_id", 64))
        .col(integer("attempt"))
        .col(text_null("output"))
        .col(string_len_null("output_hash", 64))
        .col(text_null("error"))
        .col(timestamp_with_time_zone("started_at"))
        .col(timestamp_with_time_zone("ended_at"))
        .primary_key(Index::create().col("execution_id").col("document_index").col("step_index"))
        .to_owned()
}
