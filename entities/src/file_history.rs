//! What is known of a file of a source.

use sea_orm::entity::prelude::*;

/// What is known of a file of a source.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "file_history")]
pub struct Model {
    /// The workflow that processed it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub workflow_id: Uuid,
    /// Made of connection and path.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Name of the connection that it lies in.
    pub connection: String,
    /// Its path in the connection.
    #[sea_orm(column_type = "Text")]
    pub path: String,
    /// Content address of what was processed; none if it was not loaded.
    pub hash: Option<String>,
    /// Bytes.
    pub size: i64,
    /// When it was changed, in microseconds since 1970 by the store's clock;
    /// none where that cannot be relied on.
    pub modified_at: Option<i64>,
    /// The store's own name of the content, if it has one.
    pub etag: Option<String>,
    /// Why it failed; none if it succeeded.
    pub error: Option<String>,
    /// The execution that processed it last.
    pub execution_id: Uuid,
    /// When that ended, or found that it cannot be loaded.
    pub processed_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
