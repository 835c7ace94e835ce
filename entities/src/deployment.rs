//! A workflow served as an API.

use sea_orm::entity::prelude::*;

/// A workflow served as an API.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deployments")]
pub struct Model {
    /// Primary key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose deployment it is.
    pub organisation_id: Uuid,
    /// The workflow it serves.
    pub workflow_id: Uuid,
    /// `dep_…`, names it in URLs; not a secret.
    pub public_id: String,
    /// Name in URLs, unique in the organisation.
    pub api_name: String,
    /// Name for people.
    pub display_name: String,
    /// Text for people.
    pub description: String,
    /// Limits and times, as JSON.
    #[sea_orm(column_type = "Text")]
    pub settings: String,
    /// Counts its changes and its workflow's, from 1.
    pub revision: i32,
    /// Whether it takes submissions.
    pub is_active: bool,
    /// The file that declares it; none if the API manages it.
    pub declared_in: Option<String>,
    /// The file that declared it once and is gone: a file may take it back.
    pub released_from: Option<String>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When it last changed.
    pub updated_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
