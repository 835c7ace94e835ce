//! Which execution refers to which stored bytes, so that bytes that nobody
//! refers to can be removed.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::{string_len, uuid};
use sea_orm_migration::sea_orm::DbBackend;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000007_retention"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(document_refs()).await?;
        let by_hash = Index::create()
            .name("document_refs_hash")
            .table("document_refs")
            .col("hash")
            .to_owned();
        manager.create_index(by_hash).await?;
        // Both hold only executions that expire; one those whose content is
        // there, the other those of which it is gone.
        for (name, content) in [
            ("executions_expiring", Expr::col("request").ne("{}")),
            ("executions_expired", Expr::col("request").eq("{}")),
        ] {
            let index = Index::create()
                .name(name)
                .table("executions")
                .col("expires_at")
                .and_where(Expr::col("expires_at").is_not_null().and(content))
                .to_owned();
            manager.create_index(index).await?;
        }
        backfill(manager).await
    }
}

fn document_refs() -> TableCreateStatement {
    Table::create()
        .table("document_refs")
        .col(uuid("execution_id"))
        .col(string_len("hash", 64))
        .primary_key(Index::create().col("execution_id").col("hash"))
        .to_owned()
}

/// References of the executions that are there already. `UNION` keeps one of
/// each.
async fn backfill(manager: &SchemaManager<'_>) -> Result<(), DbErr> {
    let submitted = match manager.get_database_backend() {
        DbBackend::Postgres => {
            "SELECT executions.id, document->>'hash' FROM executions, \
             json_array_elements(executions.documents::json) AS document"
        }
        _ => {
            "SELECT executions.id, json_extract(document.value, '$.hash') FROM executions, \
             json_each(executions.documents) AS document"
        }
    };
    let insert = format!(
        "INSERT INTO document_refs (execution_id, hash) {submitted} \
         UNION SELECT execution_id, output_hash FROM step_runs WHERE output_hash IS NOT NULL \
         UNION SELECT id, result_hash FROM executions WHERE result_hash IS NOT NULL"
    );
    manager.get_connection().execute_unprepared(&insert).await?;
    Ok(())
}
