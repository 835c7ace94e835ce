//! Runs that gather their documents, and what is known of each file.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, boolean_null, string_len, string_len_null, string_null, text,
    timestamp_with_time_zone, uuid,
};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000014_sources"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let gathered =
            Table::alter().table("executions").add_column(boolean_null("gathered")).to_owned();
        manager.alter_table(gathered).await?;
        let runs = Table::create()
            .table("source_runs")
            .col(uuid("workflow_id").primary_key())
            .col(uuid("execution_id"))
            .to_owned();
        manager.create_table(runs).await?;
        let history = Table::create()
            .table("file_history")
            .col(uuid("workflow_id"))
            .col(uuid("id"))
            .col(string_len("connection", 64))
            .col(text("path"))
            .col(string_len_null("hash", 64))
            .col(big_integer("size"))
            .col(big_integer_null("modified_at"))
            .col(string_null("etag"))
            .col(string_len_null("error", 64))
            .col(uuid("execution_id"))
            .col(timestamp_with_time_zone("processed_at"))
            .primary_key(Index::create().col("workflow_id").col("id"))
            .to_owned();
        manager.create_table(history).await?;
        let by_path = Index::create()
            .name("file_history_path")
            .table("file_history")
            .col("workflow_id")
            .col("path")
            .to_owned();
        manager.create_index(by_path).await
    }
}
