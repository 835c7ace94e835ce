//! One attempt to tell a receiver.

use sea_orm::entity::prelude::*;

/// One attempt to tell a receiver. It is written when it begins; what came of
/// it is missing while it is under way, and for ever if its node died.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_attempts")]
pub struct Model {
    /// The delivery.
    #[sea_orm(primary_key, auto_increment = false)]
    pub delivery_id: Uuid,
    /// Counts the attempts of the delivery, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i32,
    /// When it began.
    pub started_at: DateTimeUtc,
    /// How long it took, in milliseconds.
    pub duration_ms: Option<i64>,
    /// The answer's HTTP status, if there was an answer.
    pub http_status: Option<i32>,
    /// Code of the reason why there was none.
    pub error: Option<String>,
    /// The beginning of the answer's body.
    #[sea_orm(column_type = "Text", nullable)]
    pub answer: Option<String>,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
