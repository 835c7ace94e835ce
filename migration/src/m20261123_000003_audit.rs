//! Who changed what: one row a change, written with it.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    pk_uuid, string, string_len, string_len_null, string_null, text, timestamp_with_time_zone,
    uuid_null,
};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000003_audit"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(audit_entries()).await?;
        let listed = Index::create()
            .name("audit_entries_organisation")
            .table("audit_entries")
            .col("organisation_id")
            .col("id")
            .to_owned();
        manager.create_index(listed).await
    }
}

/// No references: an entry outlives what it tells of.
fn audit_entries() -> TableCreateStatement {
    Table::create()
        .table("audit_entries")
        .col(pk_uuid("id"))
        .col(uuid_null("organisation_id"))
        .col(string_len("author_kind", 16))
        .col(uuid_null("author_id"))
        .col(string("author_name"))
        .col(string_len_null("address", 45))
        .col(string_len_null("request_id", 128))
        .col(string_len("action", 16))
        .col(string_len("resource", 32))
        .col(uuid_null("resource_id"))
        .col(string_null("resource_name"))
        .col(text("changed"))
        .col(timestamp_with_time_zone("created_at"))
        .to_owned()
}
