//! Which of its executions an organisation wants to see.

use apistos::ApiComponent;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use crate::api::schemas;
use crate::engine::lifecycle::Status;
use crate::engine::submission::is_tag;
use crate::store::records::Filter;

/// Which executions.
#[derive(Deserialize, JsonSchema, ApiComponent)]
#[serde(deny_unknown_fields)]
pub struct ExecutionsQuery {
    /// Those of the deployment of this id.
    #[schemars(with = "Option<schemas::Id>")]
    deployment: Option<Id>,
    /// Those that stand so.
    status: Option<StatusName>,
    /// Those with this tag.
    tag: Option<Tag>,
    /// Those that repeat the execution of this id.
    #[schemars(with = "Option<schemas::Id>")]
    rerun_of: Option<Id>,
    /// Those accepted then or later (RFC 3339).
    #[schemars(with = "Option<schemas::Time>")]
    created_after: Option<Time>,
    /// Those accepted before (RFC 3339).
    #[schemars(with = "Option<schemas::Time>")]
    created_before: Option<Time>,
}

impl From<ExecutionsQuery> for Filter {
    fn from(query: ExecutionsQuery) -> Self {
        Self {
            deployment: query.deployment.map(|id| id.0),
            status: query.status.map(Into::into),
            tag: query.tag.map(|tag| tag.0),
            rerun_of: query.rerun_of.map(|id| id.0),
            created_after: query.created_after.map(|time| time.0),
            created_before: query.created_before.map(|time| time.0),
        }
    }
}

/// A status.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum StatusName {
    Pending,
    Executing,
    Completed,
    Error,
    Stopped,
}

impl From<StatusName> for Status {
    fn from(name: StatusName) -> Self {
        match name {
            StatusName::Pending => Self::Pending,
            StatusName::Executing => Self::Executing,
            StatusName::Completed => Self::Completed,
            StatusName::Error => Self::Error,
            StatusName::Stopped => Self::Stopped,
        }
    }
}

/// The id of a resource.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Id(pub Uuid);

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Only the form that ids are shown in.
        let parsed = Uuid::try_parse(&text).ok().filter(|_| text.len() == 36);
        parsed.map(Self).ok_or("an id, as answers show it")
    }
}

/// A time.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Time(DateTime<Utc>);

impl TryFrom<String> for Time {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let parsed = DateTime::parse_from_rfc3339(&text);
        parsed.map(|time| Self(time.to_utc())).map_err(|_| "a time such as 2026-11-23T08:00:00Z")
    }
}

/// A tag.
#[derive(Deserialize, JsonSchema)]
#[serde(try_from = "String")]
struct Tag(#[schemars(length(min = 1, max = 128))] String);

impl TryFrom<String> for Tag {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if is_tag(&text) { Ok(Self(text)) } else { Err("1 to 128 characters, none U+0000") }
    }
}
