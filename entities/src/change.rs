//! What the nodes that share a database must read anew.

use sea_orm::entity::prelude::*;

use crate::enums::ChangeKind;

/// What the nodes that share a database must read anew.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "changes")]
pub struct Model {
    /// Without gaps, in the order of the commits.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// What kind of thing changed.
    pub kind: ChangeKind,
    /// Which one.
    pub resource_id: Uuid,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
