//! What a deployment's callers used.

use std::collections::BTreeMap;

use actix_web::web::Data;
use apistos::{ApiComponent, api_operation};
use chrono::{DateTime, TimeDelta, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::answer::{Answer, Answers, time};
use super::auth::OrganisationManager;
use super::query::Query;
use super::schemas::Time;
use super::{ResourceId, State};
use crate::clock;
use crate::error::{ApiError, ApiResult, Code};
use crate::store::usage::{Span, UsageRow};
use crate::usage::counter::Tokens;
use crate::usage::summary::Summary;

/// Buckets of one answer.
const MAX_BUCKETS: i64 = 1500;

/// Length of a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// 60 seconds
    Minute,
    /// 3600 seconds
    #[default]
    Hour,
    /// A day of UTC
    Day,
}

impl Bucket {
    fn span(self) -> Span {
        match self {
            Self::Minute => Span::Minute,
            Self::Hour => Span::Hour,
            Self::Day => Span::Day,
        }
    }

    /// What is told of where no beginning is named.
    fn usual(self) -> TimeDelta {
        match self {
            Self::Minute => TimeDelta::hours(1),
            Self::Hour => TimeDelta::days(1),
            Self::Day => TimeDelta::days(30),
        }
    }
}

/// Which buckets.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// Length of a bucket; `hour` if absent.
    #[serde(default)]
    bucket: Bucket,
    /// The first bucket is the one with this time (RFC 3339). If absent: an hour before `to` for minutes, a day for hours, 30 days for days.
    #[schemars(with = "Option<Time>")]
    from: Option<DateTime<Utc>>,
    /// The last bucket begins before this time (RFC 3339); now if absent.
    #[schemars(with = "Option<Time>")]
    to: Option<DateTime<Utc>>,
    /// Only what this key did: the key's id.
    key: Option<Uuid>,
}

impl UsageQuery {
    /// The first seconds of the first bucket and of the one after the last.
    ///
    /// # Errors
    /// `invalid_value` with the place.
    fn range(&self) -> ApiResult<(i64, i64)> {
        let refused = |place, detail: String| Err(ApiError::at(Code::InvalidValue, place, detail));
        let to = self.to.unwrap_or_else(clock::now);
        let Some(from) = self.from.or_else(|| to.checked_sub_signed(self.bucket.usual())) else {
            return refused("to", "a later time".to_owned());
        };
        if from >= to {
            return refused("from", "a time before `to`".to_owned());
        }
        let span = self.bucket.span();
        let length = i64::from(span.seconds());
        let first = span.start(from.timestamp());
        // A bucket that begins at `to` is not among them.
        let whole = to.timestamp() + i64::from(to.timestamp_subsec_nanos() > 0);
        let last = span.start(whole - 1);
        if (last - first) / length >= MAX_BUCKETS {
            let cure = "name a later `from` or a longer `bucket`";
            return refused("from", format!("at most {MAX_BUCKETS} buckets; {cure}"));
        }
        Ok((first, last + length))
    }
}

/// Requests of known keys.
#[derive(Serialize, JsonSchema)]
pub struct RequestsUsed {
    total: i64,
    /// By HTTP status.
    by_status: BTreeMap<String, i64>,
    /// Share that was answered with 400 or above; null if there were none.
    error_rate: Option<f64>,
}

/// Executions that ended.
#[derive(Serialize, JsonSchema)]
pub struct ExecutionsUsed {
    total: i64,
    /// By final status: `COMPLETED`, `ERROR`, `STOPPED`.
    by_status: BTreeMap<String, i64>,
    /// Share that ended as `ERROR`; null if none ended.
    error_rate: Option<f64>,
    /// From the first start to the end.
    seconds: Seconds,
}

/// Percentiles in seconds, within 6.25 %; null where nothing ran.
#[derive(Serialize, JsonSchema)]
pub struct Seconds {
    p50: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
}

/// Tokens of one model, and what they cost.
#[derive(Serialize, JsonSchema)]
pub struct ModelUsed {
    prompt_tokens: i64,
    completion_tokens: i64,
    embedding_tokens: i64,
    cost_in_dollars: f64,
}

/// What was used.
#[derive(Serialize, JsonSchema)]
pub struct Used {
    requests: RequestsUsed,
    executions: ExecutionsUsed,
    /// Documents taken in.
    documents: i64,
    /// Their bytes.
    bytes: i64,
    /// By the model's name.
    models: BTreeMap<String, ModelUsed>,
}

/// What was used in one bucket.
#[derive(Serialize, JsonSchema)]
pub struct UsedInBucket {
    /// Where the bucket begins.
    start: String,
    #[serde(flatten)]
    used: Used,
}

/// What a deployment's callers used.
#[derive(Serialize, JsonSchema)]
pub struct UsageAnswer {
    bucket: Bucket,
    /// Where the first bucket begins.
    from: String,
    /// Where the last one ends.
    to: String,
    /// The key it is of; null: all keys.
    key: Option<String>,
    /// All buckets together.
    total: Used,
    /// In the order of time. Buckets in which nothing was used are left out.
    results: Vec<UsedInBucket>,
}

impl Answers for UsageAnswer {
    const STATUSES: &'static [(u16, &'static str)] = &[(200, "What was used")];
}

/// Usage
/// What the deployment's callers used, by minute, hour or day. It is some seconds behind. Minutes and hours are kept for a limited time.
#[api_operation(tag = "deployments", operation_id = "deployment_usage")]
pub async fn usage(
    state: Data<State>,
    manager: OrganisationManager,
    deployment: ResourceId,
    query: Query<UsageQuery>,
) -> ApiResult<Answer<UsageAnswer>> {
    let store = state.engine.store();
    let deployment = store.deployment(manager.0.organisation_id, deployment.0).await?;
    let query = query.0;
    let (from, to) = query.range()?;
    let rows = store.usage(deployment.id, query.bucket.span(), from, to, query.key).await?;
    let (total, buckets) = summaries(rows);
    Ok(Answer::ok(UsageAnswer {
        bucket: query.bucket,
        from: at(from),
        to: at(to),
        key: query.key.map(|key| key.to_string()),
        total: used(&total),
        results: buckets
            .iter()
            .map(|(start, summary)| UsedInBucket { start: at(*start), used: used(summary) })
            .collect(),
    }))
}

/// Everything together, and by the start of each bucket.
fn summaries(rows: Vec<UsageRow>) -> (Summary, BTreeMap<i64, Summary>) {
    let mut total = Summary::default();
    let mut buckets: BTreeMap<i64, Summary> = BTreeMap::new();
    for row in rows {
        // A counter of a later version is none of this one's.
        if let Ok(counter) = row.name.parse() {
            total.add(&counter, row.value);
            buckets.entry(row.start).or_default().add(&counter, row.value);
        }
    }
    (total, buckets)
}

fn used(summary: &Summary) -> Used {
    let requests = summary.requests.values().sum();
    let refused = summary.requests.range(400..).map(|(_, count)| count).sum();
    let Summary { completed, failed, stopped, .. } = *summary;
    let ended = completed + failed + stopped;
    let percentile = |percent| summary.times.percentile(percent).map(|time| time.as_secs_f64());
    let by_status = |status: &u16, count: &i64| (status.to_string(), *count);
    Used {
        requests: RequestsUsed {
            total: requests,
            by_status: summary
                .requests
                .iter()
                .map(|(status, count)| by_status(status, count))
                .collect(),
            error_rate: share(refused, requests),
        },
        executions: ExecutionsUsed {
            total: ended,
            by_status: [("COMPLETED", completed), ("ERROR", failed), ("STOPPED", stopped)]
                .map(|(status, count)| (status.to_owned(), count))
                .into(),
            error_rate: share(failed, ended),
            seconds: Seconds { p50: percentile(50), p95: percentile(95), p99: percentile(99) },
        },
        documents: summary.documents,
        bytes: summary.bytes,
        models: summary
            .models
            .iter()
            .map(|(model, tokens)| (model.clone(), model_used(*tokens)))
            .collect(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers above 2^53 may be rounded")]
fn model_used(tokens: Tokens) -> ModelUsed {
    ModelUsed {
        prompt_tokens: tokens.prompt,
        completion_tokens: tokens.completion,
        embedding_tokens: tokens.embedding,
        cost_in_dollars: tokens.cost_nanodollars as f64 / 1e9,
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers above 2^53 may be rounded")]
fn share(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A whole second, as times are told.
fn at(second: i64) -> String {
    time(DateTime::from_timestamp(second, 0).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> UsageQuery {
        serde_urlencoded::from_str(text).unwrap()
    }

    #[test]
    fn a_range_is_the_buckets_that_its_times_are_in() {
        let range = |text: &str| query(text).range().unwrap();
        let hour = "bucket=hour&from=1970-01-01T01:30:00Z";
        assert_eq!(range(&format!("{hour}&to=1970-01-01T03:00:00Z")), (3600, 10_800));
        assert_eq!(range(&format!("{hour}&to=1970-01-01T03:00:00.5Z")), (3600, 14_400));
        let (first, end) = range("bucket=day");
        assert_eq!((end - first) / 86_400, 31);
    }

    #[test]
    fn a_range_of_more_buckets_than_are_told_at_once_is_refused() {
        let minutes = "bucket=minute&from=2026-01-01T00:00:00Z";
        assert!(query(&format!("{minutes}&to=2026-01-02T01:00:00Z")).range().is_ok());
        assert!(query(&format!("{minutes}&to=2026-01-02T01:00:01Z")).range().is_err());
        for odd in [
            "from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z",
            "to=-262143-01-01T00:00:00Z",
            "from=%2B262142-01-01T00:00:00Z",
            "from=-262143-01-01T00:00:00Z&to=%2B262142-01-01T00:00:00Z",
        ] {
            assert!(query(odd).range().is_err(), "{odd}");
        }
    }

    #[test]
    fn tokens_and_cost_are_told_by_model() {
        let rows = [("prompt:m", 10), ("completion:m", 4), ("cost:m", 2_500_000), ("later:m", 1)];
        let row = |(name, value): (&str, i64)| UsageRow { start: 0, name: name.into(), value };
        let (total, buckets) = summaries(rows.into_iter().map(row).collect());
        let told = serde_json::to_value(used(&total)).unwrap();
        assert_eq!(
            told["models"],
            serde_json::json!({"m": {"prompt_tokens": 10, "completion_tokens": 4,
                "embedding_tokens": 0, "cost_in_dollars": 0.0025}})
        );
        assert_eq!(buckets.len(), 1);
    }
}
