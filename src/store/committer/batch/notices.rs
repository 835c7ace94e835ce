//! What is to be told of ends.

use std::collections::HashMap;

use millrace_entities::enums::{DeliveryState, Status};
use millrace_entities::webhook_delivery;
use sea_orm::{DatabaseTransaction, EntityTrait, IntoActiveModel};
use uuid::Uuid;

use super::chunks;
use crate::store::StoreError;
use crate::store::committer::{Claim, Ending};

/// One delivery for each end that a receiver wants to be told of, due at once.
pub(super) fn deliveries(ended: &HashMap<Uuid, (Claim, Ending)>) -> Vec<webhook_delivery::Model> {
    let told = ended.iter().filter_map(|(id, (_, ending))| {
        let notice = ending.notice.as_ref()?;
        let event = event(ending.status)?;
        notice.statuses.contains(&ending.status).then(|| webhook_delivery::Model {
            id: Uuid::now_v7(),
            organisation_id: notice.organisation_id,
            deployment_id: notice.deployment_id,
            execution_id: *id,
            connection: notice.connection.clone(),
            event: event.to_owned(),
            state: DeliveryState::Pending,
            attempts: 0,
            tries: 0,
            next_attempt_at: 0,
            created_at: ending.ended_at,
            ended_at: None,
        })
    });
    told.collect()
}

/// What an end is called on the wire.
fn event(status: Status) -> Option<&'static str> {
    match status {
        Status::Completed => Some("execution.completed"),
        Status::Error => Some("execution.failed"),
        Status::Stopped => Some("execution.stopped"),
        Status::Pending | Status::Executing => None,
    }
}

pub(super) async fn insert_deliveries(
    transaction: &DatabaseTransaction,
    rows: Vec<webhook_delivery::Model>,
) -> Result<(), StoreError> {
    for chunk in chunks(rows, 12) {
        let rows = chunk.into_iter().map(IntoActiveModel::into_active_model);
        webhook_delivery::Entity::insert_many(rows).exec_without_returning(transaction).await?;
    }
    Ok(())
}
