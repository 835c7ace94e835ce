//! The OpenAPI 3.1 document of one deployment: JSON of our own, because it
//! depends on what the deployment is at the moment.

use serde_json::{Value, json};

use super::{components, operations};
use crate::engine::settings::Settings;

/// What the document tells of a deployment.
pub struct Subject<'a> {
    /// `dep_…`
    pub public_id: &'a str,
    /// Text for people, of the organisation's choice.
    pub name: &'a str,
    /// Markdown for people, of the organisation's choice.
    pub description: &'a str,
    /// Counts its changes.
    pub revision: i32,
    /// Limits and times.
    pub settings: &'a Settings,
    /// Whether the workflow reads documents.
    pub reads_documents: bool,
    /// `server.public_url` without a last slash, or nothing.
    pub public_url: &'a str,
    /// What the reader calls the server, for examples: `Host`.
    pub host: &'a str,
}

/// The document.
pub fn build(subject: &Subject) -> Value {
    let server = if subject.public_url.is_empty() { "/" } else { subject.public_url };
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": subject.name,
            "version": subject.revision.to_string(),
            "description": description(subject),
        },
        "servers": [{"url": server}],
        "security": [{components::SCHEME: []}],
        "tags": [{"name": "executions"}],
        "paths": operations::paths(subject, &base(subject)),
        "components": components::build(subject),
    })
}

/// Where examples call: an address of harmless characters alone, since it
/// stands in code.
fn base(subject: &Subject) -> String {
    let harmless = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b":/._~-[]%@".contains(&byte))
    };
    match subject {
        Subject { public_url, .. } if harmless(public_url) => (*public_url).to_owned(),
        Subject { host, .. } if harmless(host) => format!("http://{host}"),
        _ => "http://127.0.0.1:8080".to_owned(),
    }
}

/// Markdown without HTML: what an organisation writes stays text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A size as people say it, if that is exact.
fn bytes(count: u64) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let exact = units.into_iter().find(|(_, unit)| count >= *unit && count.is_multiple_of(*unit));
    exact
        .map_or_else(|| format!("{count} bytes"), |(name, unit)| format!("{} {name}", count / unit))
}

fn description(subject: &Subject) -> String {
    let Settings { rate_limit: rate, .. } = subject.settings;
    let settings = subject.settings;
    let types: Vec<_> = settings
        .allowed_mime_types
        .iter()
        .flatten()
        .map(|kind| format!("`{}`", escaped(kind)))
        .collect();
    let types = if types.is_empty() { "all".to_owned() } else { types.join(", ") };
    let kept = match settings.result_ttl_seconds {
        Some(seconds) => format!("{seconds} seconds"),
        None => "for ever".to_owned(),
    };
    let limits = [
        (
            "requests",
            format!(
                "{} in {} seconds, evenly spread; {} at once after a rest",
                rate.requests, rate.per_seconds, rate.burst
            ),
        ),
        ("executions at the same time", settings.max_concurrency.to_string()),
        ("executions that may wait", settings.max_queued.to_string()),
        ("documents in one submission", settings.max_files.to_string()),
        ("size of a document", bytes(settings.max_file_bytes)),
        ("types of documents", types),
        (
            "time for a submission to arrive",
            format!("{} seconds", settings.request_timeout_seconds),
        ),
        ("time for an execution", format!("{} seconds", settings.execution_timeout_seconds)),
        ("a result is kept", kept),
    ];
    let rows: String =
        limits.iter().map(|(name, value)| format!("| {name} | {value} |\n")).collect();
    let intro = escaped(subject.description);
    format!(
        "{intro}\n\nEvery call carries a key of this deployment: `Authorization: Bearer unst_…`. \
         The examples take it from the environment variable `MILLRACE_KEY`, and the id of an \
         execution from `EXECUTION_ID`.\n\n| limit | value |\n|---|---|\n{rows}"
    )
}
