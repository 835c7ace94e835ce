//! What the server itself must remember between its lives.

use sea_orm::entity::prelude::*;

/// What the server itself must remember between its lives.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "settings")]
pub struct Model {
    /// What is remembered.
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Its value; never a secret in clear.
    #[sea_orm(column_type = "Text")]
    pub value: String,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
