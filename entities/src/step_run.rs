//! The recorded outcome of one step on one document.

use sea_orm::entity::prelude::*;

/// The recorded outcome of one step on one document.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "step_runs")]
pub struct Model {
    /// The execution.
    #[sea_orm(primary_key, auto_increment = false)]
    pub execution_id: Uuid,
    /// Position of the document in the submission.
    #[sea_orm(primary_key, auto_increment = false)]
    pub document_index: i32,
    /// Position of the step in the workflow.
    #[sea_orm(primary_key, auto_increment = false)]
    pub step_index: i32,
    /// The step's id in the workflow.
    pub step_id: String,
    /// The execution's attempt that recorded it; 0 if it was taken over from
    /// the execution that this one repeats.
    pub attempt: i32,
    /// The output, as JSON, if it is small; an empty text if the step was passed
    /// over, and the next one got what it got.
    #[sea_orm(column_type = "Text", nullable)]
    pub output: Option<String>,
    /// The output in the document store, if it is large.
    pub output_hash: Option<String>,
    /// Why the step failed, as JSON. With an output, its document went on.
    #[sea_orm(column_type = "Text", nullable)]
    pub error: Option<String>,
    /// When the step began.
    pub started_at: DateTimeUtc,
    /// When the step ended.
    pub ended_at: DateTimeUtc,
    /// How often that attempt tried it; 0 if it was not to run.
    pub tries: i32,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
