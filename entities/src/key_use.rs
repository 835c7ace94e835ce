//! When a key was used last, on any node.

use sea_orm::entity::prelude::*;

/// When a key was used last, on any node.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "key_uses")]
pub struct Model {
    /// A deployment's key or a platform key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: Uuid,
    /// When it last opened something.
    pub last_used_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
