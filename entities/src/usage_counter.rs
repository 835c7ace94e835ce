//! A number of what one key used within one span of time.

use sea_orm::entity::prelude::*;

/// A number of what one key used within one span of time.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "usage_counters")]
pub struct Model {
    /// What was called.
    #[sea_orm(primary_key, auto_increment = false)]
    pub deployment_id: Uuid,
    /// Length of the span, in seconds: 60, 3600 or 86400.
    #[sea_orm(primary_key, auto_increment = false)]
    pub span: i32,
    /// Where it begins, in seconds since 1970.
    #[sea_orm(primary_key, auto_increment = false)]
    pub start: i64,
    /// By which key; the nil id where none is known.
    #[sea_orm(primary_key, auto_increment = false)]
    pub key_id: Uuid,
    /// What was counted.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// How much of it.
    pub value: i64,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
