//! Which file declares a workflow or a deployment.

use sea_orm_migration::prelude::*;
use sea_orm_migration::schema::string_null;

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261123_000009_declared"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["workflows", "deployments"] {
            for column in ["declared_in", "released_from"] {
                // SQLite adds one column a statement.
                let add = Table::alter().table(table).add_column(string_null(column)).to_owned();
                manager.alter_table(add).await?;
            }
        }
        Ok(())
    }
}
