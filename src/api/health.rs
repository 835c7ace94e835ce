//! Whether the server lives, and whether it can serve.

use std::time::Duration;

use actix_web::web::Data;
use apistos::api_operation;
use schemars::JsonSchema;
use serde::Serialize;

use super::State;
use super::answer::{Answer, Answers};
use crate::error::{ApiError, ApiResult, Code};

/// How long the store may take to say that it is there.
const PING: Duration = Duration::from_secs(2);

/// It is well.
#[derive(Serialize, JsonSchema)]
pub struct Health {
    status: &'static str,
}

impl Answers for Health {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "It is well")];
}

/// Live
/// Whether the process answers.
#[api_operation(tag = "health", operation_id = "live")]
pub async fn live() -> ApiResult<Answer<Health>> {
    Ok(Answer::ok(Health { status: "live" }))
}

/// Ready
/// Whether it can take work: the store answers and takes writes, and every deployment's actor lives.
#[api_operation(tag = "health", operation_id = "ready")]
pub async fn ready(state: Data<State>) -> ApiResult<Answer<Health>> {
    if state.engine.context().is_draining() {
        return Err(ApiError::new(Code::Draining));
    }
    if !state.engine.is_ready() {
        return Err(ApiError::new(Code::DeploymentUnavailable));
    }
    state.engine.check_store(PING).await?;
    Ok(Answer::ok(Health { status: "ready" }))
}
