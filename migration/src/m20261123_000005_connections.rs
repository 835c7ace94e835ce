//! Connections of organisations, their secrets sealed.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{
    integer, pk_uuid, string_len, text, timestamp_with_time_zone, uuid,
};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000005_connections"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(connections()).await?;
        let named = Index::create()
            .name("connections_organisation_id_name")
            .table("connections")
            .col("organisation_id")
            .col("name")
            .unique()
            .to_owned();
        manager.create_index(named).await
    }
}

fn connections() -> TableCreateStatement {
    let mut owner = ForeignKey::create()
        .name("connections_organisation_id_fk")
        .from("connections", "organisation_id")
        .to("organisations", "id")
        .on_delete(ForeignKeyAction::Restrict)
        .to_owned();
    Table::create()
        .table("connections")
        .col(pk_uuid("id"))
        .col(uuid("organisation_id"))
        .col(string_len("name", 64))
        .col(string_len("kind", 16))
        .col(text("description"))
        .col(text("settings"))
        .col(text("sealed"))
        .col(integer("revision"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .foreign_key(&mut owner)
        .to_owned()
}
