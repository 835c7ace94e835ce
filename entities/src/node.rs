//! One life of one server process; its heartbeat is its claim on the executions it owns.

use sea_orm::entity::prelude::*;

/// One life of one server process; its heartbeat is its claim on the executions it owns.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "nodes")]
pub struct Model {
    /// Made anew at each start.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Last sign of life, in milliseconds of the database's clock.
    pub heartbeat_ms: i64,
    /// When the process started.
    pub started_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
