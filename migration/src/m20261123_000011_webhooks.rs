//! Who is to be told of the ends of executions, and every attempt to do so.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, big_integer_null, integer, integer_null, pk_uuid, string_len, string_len_null,
    text_null, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid,
};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000011_webhooks"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(deliveries()).await?;
        manager.create_table(attempts()).await?;
        // Receiver by receiver, so that the backlog of one is passed over by
        // one step in the index.
        let due = Index::create()
            .name("webhook_deliveries_due")
            .table("webhook_deliveries")
            .col("organisation_id")
            .col("connection")
            .col("next_attempt_at")
            .and_where(Expr::col("state").eq("pending"))
            .to_owned();
        manager.create_index(due).await?;
        for (name, column) in [
            ("webhook_deliveries_organisation", "organisation_id"),
            ("webhook_deliveries_execution", "execution_id"),
        ] {
            let listed = Index::create()
                .name(name)
                .table("webhook_deliveries")
                .col(column)
                .col("id")
                .to_owned();
            manager.create_index(listed).await?;
        }
        Ok(())
    }
}

fn deliveries() -> TableCreateStatement {
    Table::create()
        .table("webhook_deliveries")
        .col(pk_uuid("id"))
        .col(uuid("organisation_id"))
        .col(uuid("deployment_id"))
        .col(uuid("execution_id"))
        .col(string_len("connection", 64))
        .col(string_len("event", 32))
        .col(string_len("state", 16))
        .col(integer("attempts"))
        .col(integer("tries"))
        .col(big_integer("next_attempt_at"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone_null("ended_at"))
        .to_owned()
}

fn attempts() -> TableCreateStatement {
    Table::create()
        .table("webhook_attempts")
        .col(uuid("delivery_id"))
        .col(integer("number"))
        .col(timestamp_with_time_zone("started_at"))
        .col(big_integer_null("duration_ms"))
        .col(integer_null("http_status"))
        .col(string_len_null("error", 32))
        .col(text_null("answer"))
        .primary_key(Index::create().col("delivery_id").col("number"))
        .to_owned()
}
