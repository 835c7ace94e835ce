//! Named, secret-bearing settings of an outside system.

use sea_orm::entity::prelude::*;

/// Named, secret-bearing settings of an outside system.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "connections")]
pub struct Model {
    /// Primary key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose connection it is.
    pub organisation_id: Uuid,
    /// The name that steps give, unique in the organisation.
    pub name: String,
    /// What kind of system it leads to.
    pub kind: String,
    /// Text for people.
    pub description: String,
    /// The settings that are no secrets, as JSON.
    #[sea_orm(column_type = "Text")]
    pub settings: String,
    /// The sealed secrets by their place in the settings, as JSON.
    #[sea_orm(column_type = "Text")]
    pub sealed: String,
    /// Counts its changes, from 1.
    pub revision: i32,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it last changed.
    pub updated_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
