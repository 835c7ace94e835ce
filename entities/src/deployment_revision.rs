//! What a deployment ran at one revision; executions end on the one they began with.

use sea_orm::entity::prelude::*;

use crate::enums::WorkflowKind;

/// What a deployment ran at one revision; executions end on the one they began with.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deployment_revisions")]
pub struct Model {
    /// The deployment.
    #[sea_orm(primary_key, auto_increment = false)]
    pub deployment_id: Uuid,
    /// The revision.
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision: i32,
    /// ETL or TASK.
    pub kind: WorkflowKind,
    /// The workflow it ran.
    pub workflow_id: Uuid,
    /// The workflow's steps at that time, as JSON.
    #[sea_orm(column_type = "Text")]
    pub steps: String,
    /// The settings at that time, as JSON.
    #[sea_orm(column_type = "Text")]
    pub settings: String,
    /// When it became current.
    pub created_at: DateTimeUtc,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
