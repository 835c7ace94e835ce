//! A key that manages an organisation.

use sea_orm::entity::prelude::*;

use crate::enums::Tier;

/// A key that manages an organisation.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "platform_keys")]
pub struct Model {
    /// Primary key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose key it is.
    pub organisation_id: Uuid,
    /// blake3 of the key; the key itself is not kept.
    pub hash: Vec<u8>,
    /// First characters, for lists.
    pub prefix: String,
    /// Last characters, for lists.
    pub last_four: String,
    /// Name for people.
    pub name: String,
    /// What it may do.
    pub tier: Tier,
    /// Whether it opens anything.
    pub is_active: bool,
    /// From when on it opens nothing.
    pub expires_at: Option<DateTimeUtc>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it was revoked, for good; it is inactive from then on.
    pub revoked_at: Option<DateTimeUtc>,
    /// Counts its changes, from 1.
    pub revision: i32,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
