//! The settings of a deployment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::lifecycle::Status;
use super::plan::Faults;
use super::retry::Retry;
use super::sources::settings::Source;
use crate::cidr::Cidr;
use crate::documents::media_type::is_pattern;
use crate::form::{API_NAME, is_api_name};
use crate::schema::{Schema, SchemaFault};

/// What [`is_pattern`] takes, for the schema of the settings.
const TYPE_OR_KIND: &str =
    r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}/(\*|[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126})$";

/// Entries in one list of a deployment.
const MAX_LISTED: usize = 1000;

/// Who is told of the ends of a deployment's executions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Name of the organisation's `http` connection that leads to the
    /// receiver; it needs a signing secret.
    #[schemars(regex(pattern = r"^[A-Za-z0-9_-]{1,64}$"))]
    pub connection: String,
    /// Of which ends the receiver is told.
    #[serde(default = "every_end")]
    #[schemars(length(min = 1, max = 3))]
    pub statuses: Vec<End>,
}

/// A terminal status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum End {
    /// At least one document succeeded.
    Completed,
    /// None succeeded, or it could not run.
    Error,
    /// It was cancelled.
    Stopped,
}

impl End {
    const ALL: [Self; 3] = [Self::Completed, Self::Error, Self::Stopped];

    /// The status.
    pub const fn status(self) -> Status {
        match self {
            Self::Completed => Status::Completed,
            Self::Error => Status::Error,
            Self::Stopped => Status::Stopped,
        }
    }
}

impl Webhook {
    fn faults(&self) -> Faults {
        let mut faults = Faults::new();
        if !is_api_name(&self.connection) {
            faults.push(("webhook.connection".into(), API_NAME.into()));
        }
        if self.statuses.is_empty() || self.statuses.len() > End::ALL.len() {
            faults.push(("webhook.statuses".into(), "1 to 3 of them, or left out for all".into()));
        }
        faults
    }
}

fn every_end() -> Vec<End> {
    End::ALL.into()
}

/// How many requests a deployment takes in how much time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// Requests that come back every `per_seconds`, evenly spread.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// The time in which they come back, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub per_seconds: u32,
    /// Requests that may come at once after a rest.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self { requests: 100, per_seconds: 60, burst: 100 }
    }
}

/// Limits and times of a deployment. A change holds for the next request;
/// executions in flight keep what they began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Requests by time.
    pub rate_limit: RateLimit,
    /// Executions that run at the same time.
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrency: u32,
    /// Executions that may wait for their turn.
    #[schemars(range(min = 0, max = 100_000))]
    pub max_queued: u32,
    /// Size of one document, in bytes.
    #[schemars(range(min = 1, max = 10_737_418_240_u64))]
    pub max_file_bytes: u64,
    /// Documents in one submission.
    #[schemars(range(min = 1, max = 1000))]
    pub max_files: u32,
    /// Media types that documents may have, such as `application/pdf` or
    /// `image/*`; absent: all. The content decides, not the name or the
    /// declared type; only texts that look alike, such as CSV and plain text,
    /// are told apart by those.
    #[schemars(length(min = 1, max = 1000), inner(regex(path = "TYPE_OR_KIND")))]
    pub allowed_mime_types: Option<Vec<String>>,
    /// A JSON Schema of draft 2020-12 for `input_data`; absent: any JSON.
    /// Formats are asserted; references must stay within the schema.
    pub input_schema: Option<Map<String, Value>>,
    /// Blocks of addresses (CIDR) from which the deployment may be called;
    /// empty: from everywhere.
    #[schemars(length(max = 1000))]
    pub ip_allowlist: Vec<Cidr>,
    /// Whether the documentation page opens with the public id alone.
    pub public_docs: bool,
    /// Time for a request to arrive whole, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub request_timeout_seconds: u32,
    /// Time for an execution to end once it runs, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub execution_timeout_seconds: u32,
    /// What happens to a step that failed, unless the step says it itself.
    pub retry: Retry,
    /// Time for which a result is kept, in seconds; absent: for ever.
    #[schemars(range(min = 60, max = 315_360_000))]
    pub result_ttl_seconds: Option<u32>,
    /// Who is told of the ends of its executions; absent: nobody.
    pub webhook: Option<Webhook>,
    /// Where it gets documents by itself, of type `ETL` only; absent: callers
    /// send them.
    pub source: Option<Source>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate_limit: RateLimit::default(),
            max_concurrency: 8,
            max_queued: 1000,
            max_file_bytes: 104_857_600,
            max_files: 32,
            allowed_mime_types: None,
            input_schema: None,
            ip_allowlist: Vec::new(),
            public_docs: false,
            request_timeout_seconds: 300,
            execution_timeout_seconds: 3600,
            retry: Retry::default(),
            result_ttl_seconds: None,
            webhook: None,
            source: None,
        }
    }
}

impl Settings {
    /// The places that are wrong, each with what would be right. It compiles
    /// the input schema: not for an asynchronous thread.
    pub fn faults(&self) -> Faults {
        let mut faults = self.out_of_range();
        faults.extend(self.retry.faults("retry"));
        let allowed = self.allowed_mime_types.as_ref();
        if allowed.is_some_and(|types| types.is_empty() || types.len() > MAX_LISTED) {
            let cure = format!("1 to {MAX_LISTED} types, or null for all");
            faults.push(("allowed_mime_types".into(), cure));
        }
        if self.ip_allowlist.len() > MAX_LISTED {
            let cure = format!("at most {MAX_LISTED} blocks");
            faults.push(("ip_allowlist".into(), cure));
        }
        let types = allowed.into_iter().flatten().enumerate();
        faults.extend(types.filter(|(_, pattern)| !is_pattern(pattern)).map(|(index, _)| {
            let cure = "a media type such as application/pdf, or a pattern such as image/*";
            (format!("allowed_mime_types[{index}]"), cure.to_owned())
        }));
        if let Some(webhook) = &self.webhook {
            faults.extend(webhook.faults());
        }
        faults.extend(self.source.iter().flat_map(Source::faults));
        if let Some(Err(fault)) = self.compile_input_schema() {
            faults.push((format!("input_schema{}", fault.pointer), fault.detail));
        }
        faults
    }

    fn out_of_range(&self) -> Faults {
        let rate = self.rate_limit;
        let ranges: [(&str, u64, u64, u64); 10] = [
            ("rate_limit.requests", rate.requests.into(), 1, 1_000_000),
            ("rate_limit.per_seconds", rate.per_seconds.into(), 1, 86_400),
            ("rate_limit.burst", rate.burst.into(), 1, 1_000_000),
            ("max_concurrency", self.max_concurrency.into(), 1, 1000),
            ("max_queued", self.max_queued.into(), 0, 100_000),
            ("max_file_bytes", self.max_file_bytes, 1, 10_737_418_240),
            ("max_files", self.max_files.into(), 1, 1000),
            ("request_timeout_seconds", self.request_timeout_seconds.into(), 1, 3600),
            ("execution_timeout_seconds", self.execution_timeout_seconds.into(), 1, 86_400),
            ("result_ttl_seconds", self.result_ttl_seconds.unwrap_or(60).into(), 60, 315_360_000),
        ];
        ranges
            .into_iter()
            .filter(|(_, value, least, most)| value < least || value > most)
            .map(|(place, _, least, most)| (place.to_owned(), format!("from {least} to {most}")))
            .collect()
    }

    /// The input schema, ready to check values; none if there is none.
    pub fn compile_input_schema(&self) -> Option<Result<Schema, SchemaFault>> {
        self.input_schema.clone().map(|schema| Schema::compile(Value::Object(schema)))
    }

    /// Executions that may be accepted and not ended.
    pub fn max_accepted(&self) -> usize {
        (self.max_concurrency as usize).saturating_add(self.max_queued as usize)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_a_bad_value_is_named() {
        assert!(Settings::default().faults().is_empty());
        let settings = Settings { max_files: 0, ..Settings::default() };
        assert_eq!(settings.faults(), [("max_files".into(), "from 1 to 1000".into())]);
    }

    #[test]
    fn settings_that_were_stored_before_a_field_was_known_take_its_default() {
        let stored: Settings = serde_json::from_value(json!({"max_files": 3})).unwrap();
        assert_eq!(stored, Settings { max_files: 3, ..Settings::default() });
    }

    #[test]
    fn a_media_type_schema_or_webhook_that_cannot_be_used_is_named() {
        for (wrong, place) in [
            (json!({"allowed_mime_types": []}), "allowed_mime_types"),
            (json!({"allowed_mime_types": ["text/*", "pdf"]}), "allowed_mime_types[1]"),
            (
                json!({"input_schema": {"properties": {"a": {"type": 1}}}}),
                "input_schema/properties/a/type",
            ),
            (json!({"webhook": {"connection": "a b"}}), "webhook.connection"),
            (json!({"webhook": {"connection": "a", "statuses": []}}), "webhook.statuses"),
            (json!({"input_schema": {"$ref": "https://example.com/x"}}), "input_schema"),
            (json!({"input_schema": {"$schema": "http://x"}}), "input_schema/$schema"),
        ] {
            let settings: Settings = serde_json::from_value(wrong).unwrap();
            let places: Vec<_> = settings.faults().into_iter().map(|(place, _)| place).collect();
            assert_eq!(places, [place]);
        }
    }
}
