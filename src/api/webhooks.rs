//! Deliveries of webhooks, and every attempt with its answer.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use chrono::DateTime;
use millrace_entities::enums::DeliveryState;
use millrace_entities::{webhook_attempt, webhook_delivery};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{Answer, Answers, time};
use super::auth::OrganisationManager;
use super::page::{Filtered, Listing};
use super::records::filter::Id;
use super::{ResourceId, State, schemas};
use crate::engine::webhooks::webhook_id;
use crate::error::ApiResult;
use crate::store::deliveries::Filter;

/// Where a delivery stands.
#[derive(Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "WebhookDeliveryState")]
enum Standing {
    /// It is tried, or will be.
    Pending,
    /// The receiver took it.
    Delivered,
    /// It is not tried any more.
    Failed,
}

impl From<DeliveryState> for Standing {
    fn from(state: DeliveryState) -> Self {
        match state {
            DeliveryState::Pending => Self::Pending,
            DeliveryState::Delivered => Self::Delivered,
            DeliveryState::Failed => Self::Failed,
        }
    }
}

impl From<Standing> for DeliveryState {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Pending => Self::Pending,
            Standing::Delivered => Self::Delivered,
            Standing::Failed => Self::Failed,
        }
    }
}

/// Which deliveries.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct DeliveriesQuery {
    /// Those of the deployment of this id.
    #[schemars(with = "Option<schemas::Id>")]
    deployment: Option<Id>,
    /// Those of the execution of this id.
    #[schemars(with = "Option<schemas::Id>")]
    execution: Option<Id>,
    /// Those that stand so.
    state: Option<Standing>,
}

impl From<DeliveriesQuery> for Filter {
    fn from(query: DeliveriesQuery) -> Self {
        Self {
            deployment: query.deployment.map(|id| id.0),
            execution: query.execution.map(|id| id.0),
            state: query.state.map(Into::into),
        }
    }
}

/// What a receiver is told of the end of one execution.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookDelivery")]
pub struct DeliveryAnswer {
    id: String,
    /// `webhook-id` as the receiver sees it, the same in all attempts.
    webhook_id: String,
    /// `execution.completed`, `execution.failed` or `execution.stopped`.
    #[serde(rename = "type")]
    event: String,
    execution_id: Uuid,
    deployment_id: Uuid,
    /// Name of the connection that leads to the receiver.
    connection: String,
    state: Standing,
    /// Attempts that were begun.
    attempts: i32,
    /// When the next attempt is due; while one is under way, when it is made again if nothing is heard of it. Null: at once, or never.
    next_attempt_at: Option<String>,
    created_at: String,
    /// When it was delivered or given up.
    ended_at: Option<String>,
}

impl DeliveryAnswer {
    fn of(row: webhook_delivery::Model) -> Self {
        let due = row.next_attempt_at;
        let is_awaited = row.state == DeliveryState::Pending && due > 0;
        let next = is_awaited.then(|| DateTime::from_timestamp_millis(due)).flatten();
        Self {
            id: row.id.to_string(),
            webhook_id: webhook_id(row.id),
            event: row.event,
            execution_id: row.execution_id,
            deployment_id: row.deployment_id,
            connection: row.connection,
            state: row.state.into(),
            attempts: row.attempts,
            next_attempt_at: next.map(time),
            created_at: time(row.created_at),
            ended_at: row.ended_at.map(time),
        }
    }
}

/// One attempt to tell the receiver.
#[derive(Serialize, JsonSchema)]
struct WebhookAttempt {
    /// From 1.
    number: i32,
    started_at: String,
    /// In milliseconds. Null while the attempt is under way, and for ever if its server died.
    duration_ms: Option<i64>,
    /// Status of the answer, if there was one.
    http_status: Option<i32>,
    /// Why there was no answer: `timeout`, `connect_failed`, `tls_failed`, `request_failed`, `blocked_destination`, `connection_unknown` or `connection_without_secret`.
    error: Option<String>,
    /// The first 1024 bytes of the answer's body, control characters escaped, secrets of the connection masked.
    answer: Option<String>,
}

impl From<webhook_attempt::Model> for WebhookAttempt {
    fn from(row: webhook_attempt::Model) -> Self {
        Self {
            number: row.number,
            started_at: time(row.started_at),
            duration_ms: row.duration_ms,
            http_status: row.http_status,
            error: row.error,
            answer: row.answer,
        }
    }
}

/// A delivery with every attempt.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookDeliveryDetail")]
pub struct DeliveryDetail {
    #[serde(flatten)]
    delivery: DeliveryAnswer,
    /// In their order.
    history: Vec<WebhookAttempt>,
}

impl Answers for DeliveryDetail {
    const STATUSES: &'static [(u16, &'static str)] =
        &[(200, "The delivery"), (202, "It is made once more")];
}

/// List webhook deliveries
/// Newest first.
#[api_operation(tag = "webhooks", operation_id = "list_webhook_deliveries")]
pub async fn list(
    state: Data<State>,
    manager: OrganisationManager,
    query: Filtered<DeliveriesQuery>,
) -> ApiResult<Answer<Listing<DeliveryAnswer>>> {
    let Filtered { paging, filter } = query;
    let owner = manager.organisation_id();
    let found = state.engine.store().deliveries(owner, filter.into(), paging.page).await?;
    Ok(Answer::ok(Listing::new(&paging, found, DeliveryAnswer::of)))
}

/// Get a webhook delivery
/// With every attempt and its answer.
#[api_operation(tag = "webhooks", operation_id = "get_webhook_delivery")]
pub async fn get(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<DeliveryDetail>> {
    Ok(Answer::ok(detail(&state, &manager, id.0).await?))
}

/// Deliver once more
/// At once, whatever came of it before, under the same `webhook-id`; if it fails, from the beginning of the schedule.
#[api_operation(tag = "webhooks", operation_id = "redeliver_webhook")]
pub async fn redeliver(
    state: Data<State>,
    manager: OrganisationManager,
    id: ResourceId,
) -> ApiResult<Answer<DeliveryDetail>> {
    state.engine.redeliver(manager.author(), &manager.0, id.0).await?;
    let body = detail(&state, &manager, id.0).await?;
    Ok(Answer::with_status(StatusCode::ACCEPTED, body))
}

async fn detail(
    state: &State,
    manager: &OrganisationManager,
    id: Uuid,
) -> ApiResult<DeliveryDetail> {
    let (row, attempts) = state.engine.store().delivery(manager.organisation_id(), id).await?;
    let history = attempts.into_iter().map(Into::into).collect();
    Ok(DeliveryDetail { delivery: DeliveryAnswer::of(row), history })
}
