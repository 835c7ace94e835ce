//! The settings of a deployment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Whether the documentation page opens with the public id alone.
    pub public_docs: bool,
    /// Time for a request to arrive whole, in seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub request_timeout_seconds: u32,
    /// Time for an execution to end once it runs, in seconds.
    #[schemars(range(min = 1, max = 86_400))]
    pub execution_timeout_seconds: u32,
    /// Time for which a result is kept, in seconds; absent: for ever.
    #[schemars(range(min = 60, max = 315_360_000))]
    pub result_ttl_seconds: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rate_limit: RateLimit::default(),
            max_concurrency: 8,
            max_queued: 1000,
            max_file_bytes: 104_857_600,
            max_files: 32,
            public_docs: false,
            request_timeout_seconds: 300,
            execution_timeout_seconds: 3600,
            result_ttl_seconds: None,
        }
    }
}

impl Settings {
    /// The places that are out of range, each with what would be right.
    pub fn faults(&self) -> Vec<(String, String)> {
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

    /// Executions that may be accepted and not ended.
    pub fn max_accepted(&self) -> usize {
        (self.max_concurrency as usize).saturating_add(self.max_queued as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_a_bad_value_is_named() {
        assert!(Settings::default().faults().is_empty());
        let settings = Settings { max_files: 0, ..Settings::default() };
        assert_eq!(settings.faults(), [("max_files".into(), "from 1 to 1000".into())]);
    }
}
