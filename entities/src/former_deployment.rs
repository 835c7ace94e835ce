//! A deployment that was deleted: whose executions are still told of.

use sea_orm::entity::prelude::*;

/// A deployment that was deleted: whose executions are still told of.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "former_deployments")]
pub struct Model {
    /// The id it had.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose it was.
    pub organisation_id: Uuid,
    /// The name it had last.
    pub api_name: String,
    /// When it was deleted.
    pub deleted_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
