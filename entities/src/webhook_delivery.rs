//! What a receiver is told of the end of one execution.

use sea_orm::entity::prelude::*;

use crate::enums::DeliveryState;

/// What a receiver is told of the end of one execution.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "webhook_deliveries")]
pub struct Model {
    /// UUIDv7; the receiver sees it as `webhook-id`, the same in all attempts.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose execution it is.
    pub organisation_id: Uuid,
    /// What was called.
    pub deployment_id: Uuid,
    /// The execution that ended.
    pub execution_id: Uuid,
    /// Name of the organisation's connection that leads to the receiver.
    pub connection: String,
    /// What happened, such as `execution.completed`.
    pub event: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts that were begun.
    pub attempts: i32,
    /// Those of them since it was asked for last: the place in the schedule.
    pub tries: i32,
    /// In milliseconds of the database's clock: while it is pending, when the
    /// next attempt is due; while one is under way, the end of the lease of
    /// the node that makes it. 0 is at once.
    pub next_attempt_at: i64,
    /// When the execution ended.
    pub created_at: DateTimeUtc,
    /// When it was delivered or given up.
    pub ended_at: Option<DateTimeUtc>,
}

/// No relations: queries join by id where they must.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
