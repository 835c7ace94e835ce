//! The last batch of usage that a node has added to the counters.

use sea_orm::entity::prelude::*;

/// The last batch of usage that a node has added to the counters.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_flushes")]
pub struct Model {
    /// The node.
    #[sea_orm(primary_key, auto_increment = false)]
    pub node: Uuid,
    /// Number of the batch; batches count up from 1.
    pub sequence: i64,
    /// When it was added, in seconds since 1970.
    pub at: i64,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
