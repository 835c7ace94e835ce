//! How many tries a step took, and which execution another one repeats.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{integer, integer_null, uuid_null};

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000012_reruns"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut tries = integer("tries");
        // Of the steps that are recorded already each was tried once.
        tries.default(1);
        let columns = [
            ("step_runs", tries),
            ("executions", uuid_null("rerun_of")),
            ("executions", integer_null("rerun_from")),
        ];
        for (table, column) in columns {
            // SQLite adds one column a statement.
            let add = Table::alter().table(table).add_column(column).to_owned();
            manager.alter_table(add).await?;
        }
        // Only reruns cost entries here.
        let index = Index::create()
            .name("executions_rerun_of")
            .table("executions")
            .col("rerun_of")
            .and_where(Expr::col("rerun_of").is_not_null())
            .to_owned();
        manager.create_index(index).await
    }
}
