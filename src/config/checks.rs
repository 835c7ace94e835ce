//! What must hold of settings that have the right types.

use std::path::Path;

use secrecy::ExposeSecret;

use super::{Config, DatabaseConfig, EngineConfig, RetentionConfig, ServerConfig, WebhooksConfig};
use crate::documents::fetch::FetchConfig;

/// Twice the longest `request_timeout_seconds`: a document that was stored
/// must be spared until the commit that refers to it.
const LEAST_GRACE: u64 = 7200;

/// Longest pause between two attempts of a webhook, in seconds: 30 days.
const MAX_PAUSE: u32 = 2_592_000;

const AT_LEAST_ONE: &str = "must be 1 or more";

/// One rule.
pub(super) struct Check {
    /// The setting.
    pub(super) place: &'static str,
    /// Whether it is kept.
    pub(super) holds: bool,
    /// What would be right.
    pub(super) cure: &'static str,
}

fn check(place: &'static str, holds: bool, cure: &'static str) -> Check {
    Check { place, holds, cure }
}

/// All rules.
pub(super) fn of(config: &Config) -> Vec<Check> {
    let mut checks = server(&config.server);
    checks.extend(database(&config.database));
    let has_folder = config.deployments.folder != Path::new("");
    checks.push(check("deployments.folder", has_folder, "must be a path"));
    checks.extend(engine(&config.engine));
    checks.push(check("usage.flush_seconds", config.usage.flush_seconds >= 1, AT_LEAST_ONE));
    checks.extend(retention(&config.retention));
    checks.extend(webhooks(&config.webhooks));
    checks.extend(fetch(&config.fetch));
    checks
}

fn server(server: &ServerConfig) -> Vec<Check> {
    vec![
        check("server.workers", server.workers >= 1, AT_LEAST_ONE),
        check(
            "server.max_body_memory_bytes",
            server.max_body_memory_bytes >= server.max_json_bytes,
            "must be server.max_json_bytes or more",
        ),
        check("server.body_idle_seconds", server.body_idle_seconds >= 1, AT_LEAST_ONE),
        check("server.body_seconds", server.body_seconds >= 1, AT_LEAST_ONE),
        check("server.head_seconds", server.head_seconds >= 1, AT_LEAST_ONE),
        check("server.keep_alive_seconds", server.keep_alive_seconds >= 1, AT_LEAST_ONE),
        check("server.disconnect_seconds", server.disconnect_seconds >= 1, AT_LEAST_ONE),
    ]
}

fn database(database: &DatabaseConfig) -> Vec<Check> {
    let url = database.url.expose_secret();
    vec![
        check(
            "database.url",
            url.starts_with("sqlite:") || url.starts_with("postgres"),
            "must begin with sqlite:// or postgres://",
        ),
        check("database.max_connections", database.max_connections >= 4, "must be 4 or more"),
        check(
            "database.answer_timeout_ms",
            database.answer_timeout_ms >= database.acquire_timeout_ms,
            "must be database.acquire_timeout_ms or more",
        ),
        check(
            "database.transaction_timeout_ms",
            database.transaction_timeout_ms >= database.statement_timeout_ms
                && database.transaction_timeout_ms >= database.answer_timeout_ms,
            "must be database.statement_timeout_ms and database.answer_timeout_ms or more",
        ),
        check("database.committers", database.committers >= 1, AT_LEAST_ONE),
        check("database.commit_batch", database.commit_batch >= 1, AT_LEAST_ONE),
        check("database.commit_queue", database.commit_queue >= 1, AT_LEAST_ONE),
    ]
}

fn engine(engine: &EngineConfig) -> Vec<Check> {
    vec![
        check("engine.arbiters", engine.arbiters >= 1, AT_LEAST_ONE),
        check("engine.step_threads", engine.step_threads >= 1, AT_LEAST_ONE),
        check("engine.max_executions", engine.max_executions >= 1, AT_LEAST_ONE),
        check("engine.document_concurrency", engine.document_concurrency >= 1, AT_LEAST_ONE),
        check("engine.lease_seconds", engine.lease_seconds >= 2, "must be 2 or more"),
    ]
}

fn retention(retention: &RetentionConfig) -> Vec<Check> {
    let is_batch = (1..=5000).contains(&retention.batch);
    let is_known = (24..=87_600).contains(&retention.idempotency_hours);
    let is_grace = retention.grace_seconds >= LEAST_GRACE;
    vec![
        check("retention.sweep_seconds", retention.sweep_seconds >= 1, AT_LEAST_ONE),
        check("retention.batch", is_batch, "must be from 1 to 5000"),
        check("retention.grace_seconds", is_grace, "must be 7200 or more"),
        check("retention.idempotency_hours", is_known, "must be from 24 to 87600"),
    ]
}

fn webhooks(webhooks: &WebhooksConfig) -> Vec<Check> {
    let pauses = &webhooks.retry_seconds;
    vec![
        check(
            "webhooks.retry_seconds",
            pauses.len() <= 100 && pauses.iter().all(|pause| *pause <= MAX_PAUSE),
            "must be at most 100 pauses of at most 2592000 seconds",
        ),
        check(
            "webhooks.retry_after_seconds",
            webhooks.retry_after_seconds <= MAX_PAUSE,
            "must be 2592000 or less",
        ),
        check(
            "webhooks.timeout_seconds",
            (1..=300).contains(&webhooks.timeout_seconds),
            "must be from 1 to 300",
        ),
        check("webhooks.max_per_receiver", webhooks.max_per_receiver >= 1, AT_LEAST_ONE),
        check(
            "webhooks.max_in_flight",
            (webhooks.max_per_receiver..=1000).contains(&webhooks.max_in_flight),
            "must be from webhooks.max_per_receiver to 1000",
        ),
    ]
}

fn fetch(fetch: &FetchConfig) -> Vec<Check> {
    vec![
        check("fetch.idle_seconds", fetch.idle_seconds >= 1, AT_LEAST_ONE),
        check("fetch.document_seconds", fetch.document_seconds >= 1, AT_LEAST_ONE),
        check("fetch.per_submission", fetch.per_submission >= 1, AT_LEAST_ONE),
        check(
            "fetch.max_in_flight",
            (fetch.per_submission..=1000).contains(&fetch.max_in_flight),
            "must be from fetch.per_submission to 1000",
        ),
    ]
}
