//! One change of what is managed.

use sea_orm::entity::prelude::*;

/// One change of what is managed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_entries")]
pub struct Model {
    /// UUIDv7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose resource it was; none for what only the operator sees.
    pub organisation_id: Option<Uuid>,
    /// What kind of author changed it.
    pub author_kind: String,
    /// The key that was used, if one was.
    pub author_id: Option<Uuid>,
    /// The author's name for people.
    pub author_name: String,
    /// The network address it came from.
    pub address: Option<String>,
    /// The request that it came with.
    pub request_id: Option<String>,
    /// What was done.
    pub action: String,
    /// To what kind of resource.
    pub resource: String,
    /// To which one.
    pub resource_id: Option<Uuid>,
    /// Its name for people.
    pub resource_name: Option<String>,
    /// Names of the fields that changed, as a JSON list; never their values.
    #[sea_orm(column_type = "Text")]
    pub changed: String,
    /// When it was changed.
    pub created_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
