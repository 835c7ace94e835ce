//! Idempotency keys: which submission came first under a key.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{binary_len, timestamp_with_time_zone, uuid};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000010_idempotency"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let keys = Table::create()
            .table("idempotency_keys")
            .col(binary_len("hash", 32).primary_key())
            .col(binary_len("fingerprint", 32))
            .col(uuid("execution_id"))
            .col(timestamp_with_time_zone("expires_at"))
            .to_owned();
        manager.create_table(keys).await?;
        let expiring = Index::create()
            .name("idempotency_keys_expires")
            .table("idempotency_keys")
            .col("expires_at")
            .to_owned();
        manager.create_index(expiring).await
    }
}
