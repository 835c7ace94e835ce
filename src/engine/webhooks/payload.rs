//! What a receiver is told: where an execution ended, and none of its content.

use chrono::SecondsFormat;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::engine::error_parts;
use crate::engine::lifecycle;
use crate::engine::live::Progress;
use crate::store::webhooks::Telling;

/// A delivery's id as its receiver sees it, the same in every attempt.
pub fn webhook_id(delivery: Uuid) -> String {
    format!("msg_{}", delivery.simple())
}

/// The body. Links are there as long as the deployment is, and are paths where
/// `public_url` is empty.
pub(super) fn payload(telling: &Telling, public_url: &str) -> Value {
    let Telling { delivery, execution, org_id, public_id } = telling;
    let summary = &execution.summary;
    let progress = Progress::from_summary(summary);
    let link = |route: &str| {
        let public_id = public_id.as_ref()?;
        Some(format!("{public_url}/deployment/{public_id}/{route}/{}/", summary.id))
    };
    let time = delivery.created_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let error = progress.error.as_ref().map(error_parts);
    json!({
        "type": delivery.event,
        "timestamp": time,
        "data": {
            "execution_id": summary.id,
            "status": lifecycle::name(summary.status),
            "org_id": org_id,
            "api_name": execution.deployment.api_name,
            "deployment_id": delivery.deployment_id,
            "tags": execution.tags,
            "documents_total": progress.documents_total,
            "documents_failed": progress.documents_failed,
            "error": error.map(|(code, detail)| json!({"code": code, "detail": detail})),
            "status_url": link("status"),
            "result_url": link("result"),
            "ended_at": time,
        },
    })
}
