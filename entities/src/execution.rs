//! One submission.

use sea_orm::entity::prelude::*;

use crate::enums::Status;

/// One submission.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "executions")]
pub struct Model {
    /// UUIDv7, shown to callers.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose execution it is.
    pub organisation_id: Uuid,
    /// What was called.
    pub deployment_id: Uuid,
    /// The deployment's revision it runs on.
    pub revision: i32,
    /// The key that submitted it.
    pub key_id: Option<Uuid>,
    /// Where its life stands.
    pub status: Status,
    /// The node that runs it; none when it was handed back.
    pub owner: Option<Uuid>,
    /// Counts its claims, from 1; guards every write with `owner`.
    pub attempt: i32,
    /// How often it was taken over from a node that died.
    pub recoveries: i32,
    /// Whether a caller wants it stopped.
    pub cancel_requested: bool,
    /// What was submitted besides documents, as JSON; `{}`, and then only,
    /// once the execution has expired and its content was removed.
    #[sea_orm(column_type = "Text")]
    pub request: String,
    /// The documents, as JSON.
    #[sea_orm(column_type = "Text")]
    pub documents: String,
    /// Number of documents.
    pub documents_total: i32,
    /// Number of documents that failed; known at the end.
    pub documents_failed: i32,
    /// Steps over all documents; known at the end.
    pub steps_total: i32,
    /// Steps that ended; known at the end.
    pub steps_done: i32,
    /// Why it failed, as JSON.
    #[sea_orm(column_type = "Text", nullable)]
    pub error: Option<String>,
    /// The result, as JSON, if it is small.
    #[sea_orm(column_type = "Text", nullable)]
    pub result: Option<String>,
    /// The result in the document store, if it is large.
    pub result_hash: Option<String>,
    /// When it was accepted.
    pub created_at: DateTimeUtc,
    /// When it first ran.
    pub started_at: Option<DateTimeUtc>,
    /// When it became terminal.
    pub ended_at: Option<DateTimeUtc>,
    /// From when on its result may be gone.
    pub expires_at: Option<DateTimeUtc>,
    /// The execution that it repeats.
    pub rerun_of: Option<Uuid>,
    /// The first step that it does not take over from that one; none: it runs
    /// all of them.
    pub rerun_from: Option<i32>,
    /// Whether its documents were gathered from the deployment's source; none
    /// if they came with the submission.
    pub gathered: Option<bool>,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
