//! An organisation: the tenant that owns everything else.

use sea_orm::entity::prelude::*;

/// An organisation: the tenant that owns everything else.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "organisations")]
pub struct Model {
    /// Primary key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// `org_id` on the wire.
    pub slug: String,
    /// Name for people.
    pub name: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// Counts its changes, from 1.
    pub revision: i32,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
