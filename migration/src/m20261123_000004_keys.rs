//! Keys that rotate and are seen in use, and the feed by which the nodes that
//! share a database hear of each other's changes.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    big_integer, integer, pk_uuid, string_len, timestamp_with_time_zone,
    timestamp_with_time_zone_null, uuid,
};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000004_keys"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["api_keys", "platform_keys"] {
            add(manager, table, timestamp_with_time_zone_null("revoked_at")).await?;
            // Until now a key was inactive only because it was revoked.
            let revoked = Query::update()
                .table(table)
                .value("revoked_at", Expr::current_timestamp())
                .and_where(Expr::col("is_active").eq(false))
                .to_owned();
            manager.execute(revoked).await?;
        }
        for table in ["api_keys", "platform_keys", "organisations"] {
            add(manager, table, integer("revision").default(1).to_owned()).await?;
        }
        manager.create_table(key_uses()).await?;
        manager.create_table(changes()).await?;
        manager.create_table(change_counter()).await?;
        let start = Query::insert()
            .into_table("change_counter")
            .columns(["id", "value"])
            .values([1.into(), 0_i64.into()])
            .map_err(|error| DbErr::Custom(error.to_string()))?
            .to_owned();
        manager.execute(start).await
    }
}

/// One column at a time: SQLite knows no other way.
async fn add(
    manager: &SchemaManager<'_>,
    table: &'static str,
    column: ColumnDef,
) -> Result<(), DbErr> {
    manager.alter_table(Table::alter().table(table).add_column(column).to_owned()).await
}

/// No references: it is written in batches, beside the keys it tells of.
fn key_uses() -> TableCreateStatement {
    Table::create()
        .table("key_uses")
        .col(pk_uuid("key_id"))
        .col(timestamp_with_time_zone("last_used_at"))
        .to_owned()
}

fn changes() -> TableCreateStatement {
    Table::create()
        .table("changes")
        .col(big_integer("id").primary_key().to_owned())
        .col(string_len("kind", 16))
        .col(uuid("resource_id"))
        .to_owned()
}

/// One row. Its lock makes the ids of `changes` follow each other without gaps
/// and in the order of the commits, which a sequence would not.
fn change_counter() -> TableCreateStatement {
    Table::create()
        .table("change_counter")
        .col(integer("id").primary_key().to_owned())
        .col(big_integer("value"))
        .to_owned()
}
