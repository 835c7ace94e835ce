//! A named list of steps.

use sea_orm::entity::prelude::*;

use crate::enums::WorkflowKind;

/// A named list of steps.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "workflows")]
pub struct Model {
    /// Primary key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose workflow it is.
    pub organisation_id: Uuid,
    /// Name, unique in the organisation.
    pub name: String,
    /// ETL or TASK.
    pub kind: WorkflowKind,
    /// Text for people.
    pub description: String,
    /// The step list, as JSON.
    #[sea_orm(column_type = "Text")]
    pub steps: String,
    /// Counts its changes, from 1.
    pub revision: i32,
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
