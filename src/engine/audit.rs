//! Who changes what: the entry that is written in the same transaction as the
//! change it tells of.

use std::net::IpAddr;

use millrace_entities::audit_entry;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock;

/// What kind of author makes a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorKind {
    /// The bearer of the operator token.
    Operator,
    /// The bearer of a platform key.
    PlatformKey,
    /// Deployment files.
    Files,
    /// The server itself.
    Server,
}

impl AuthorKind {
    /// The name on the wire and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::PlatformKey => "platform_key",
            Self::Files => "files",
            Self::Server => "server",
        }
    }
}

/// Who makes a change, and from where.
#[derive(Debug, Clone)]
pub struct Author {
    /// What kind of author.
    pub kind: AuthorKind,
    /// The key that was used, if one was.
    pub key_id: Option<Uuid>,
    /// Name for people.
    pub name: String,
    /// The network address.
    pub address: Option<IpAddr>,
    /// The request.
    pub request_id: Option<String>,
}

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Action {
    Create,
    Change,
    Delete,
    Rotate,
    Revoke,
    Rerun,
    Redeliver,
}

impl Action {
    /// The name on the wire and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Delete => "delete",
            Self::Rotate => "rotate",
            Self::Revoke => "revoke",
            Self::Rerun => "rerun",
            Self::Redeliver => "redeliver",
        }
    }
}

/// A resource that is changed.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Whose it is; none for what only the operator sees.
    pub organisation_id: Option<Uuid>,
    /// Its kind, as in the URL: `workflow`, `api-deployment`, `key`, …
    pub resource: &'static str,
    /// Its id.
    pub id: Uuid,
    /// Its name for people; never a secret.
    pub name: &'a str,
}

impl Author {
    /// The server itself, at a start.
    pub fn server() -> Self {
        Self {
            kind: AuthorKind::Server,
            key_id: None,
            name: "server".into(),
            address: None,
            request_id: None,
        }
    }

    /// Deployment files.
    pub fn files() -> Self {
        Self { kind: AuthorKind::Files, name: "files".into(), ..Self::server() }
    }

    /// The entry of a change. `changed` names fields and never holds values.
    pub fn entry(
        &self,
        action: Action,
        subject: Subject<'_>,
        changed: &[&str],
    ) -> audit_entry::Model {
        audit_entry::Model {
            id: Uuid::now_v7(),
            organisation_id: subject.organisation_id,
            author_kind: self.kind.name().into(),
            author_id: self.key_id,
            author_name: self.name.clone(),
            address: self.address.map(|address| address.to_string()),
            request_id: self.request_id.clone(),
            action: action.name().into(),
            resource: subject.resource.into(),
            resource_id: Some(subject.id),
            resource_name: Some(subject.name.into()),
            changed: serde_json::Value::from(changed).to_string(),
            created_at: clock::now(),
        }
    }
}
