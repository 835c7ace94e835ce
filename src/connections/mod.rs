//! Named, secret-bearing settings of the systems that steps talk to.
//!
//! A workflow names a connection and never carries an address or a secret
//! itself, so that who may write workflows need not be who may reach the
//! warehouse.

pub mod form;
pub mod local;
pub mod object_store;
pub mod probe;
pub mod signing;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::{Builder, Uuid};

use crate::llm;
use crate::secrets::Keyring;

/// What kind of system a connection leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ConnectionKind")]
pub enum Kind {
    /// A database.
    Sql,
    /// An object store that OpenDAL knows.
    ObjectStore,
    /// A service that speaks HTTP.
    Http,
    /// A language model.
    Llm,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Sql, Self::ObjectStore, Self::Http, Self::Llm];

    /// The name on the wire and in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sql => "sql",
            Self::ObjectStore => "object_store",
            Self::Http => "http",
            Self::Llm => "llm",
        }
    }

    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One outside system.
#[derive(Debug, Clone)]
pub enum Connection {
    /// A database, by URL (`sqlite://…`, `postgres://…`).
    Sql {
        /// Where it is, with user and password if it needs them.
        url: SecretString,
    },
    /// An object store that OpenDAL knows.
    ObjectStore {
        /// OpenDAL's name of the service, such as `fs`.
        service: String,
        /// OpenDAL's options of that service, such as `root`.
        options: BTreeMap<String, SecretString>,
    },
    /// A service that speaks HTTP.
    Http {
        /// What paths are added to.
        base_url: String,
        /// Sent with every request.
        headers: BTreeMap<String, SecretString>,
        /// What webhooks to it are signed with.
        signing_secrets: Vec<SecretString>,
    },
    /// A language model.
    Llm(llm::Settings),
}

impl Connection {
    /// Whether webhooks can be sent to it: it speaks HTTP and can sign.
    pub fn takes_webhooks(&self) -> bool {
        matches!(self, Self::Http { signing_secrets, .. } if !signing_secrets.is_empty())
    }

    /// What kind of system it leads to.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Sql { .. } => Kind::Sql,
            Self::ObjectStore { .. } => Kind::ObjectStore,
            Self::Http { .. } => Kind::Http,
            Self::Llm(_) => Kind::Llm,
        }
    }
}

/// Slug of an organisation, and the name of one of its connections.
pub type FullName = (String, String);

/// The stored connections as they were after one change in the store.
#[derive(Debug, Default)]
pub struct Stored {
    /// Id of a change that they are at least as new as.
    pub version: i64,
    /// Opened and ready for use.
    pub by_name: HashMap<FullName, Arc<Connection>>,
}

/// The connections of all organisations: those that the configuration
/// declares, and those that organisations store.
#[derive(Debug)]
pub struct Connections {
    declared: BTreeMap<FullName, Arc<Connection>>,
    stored: ArcSwap<Stored>,
    keyring: Keyring,
    local_folders: Vec<PathBuf>,
    trials: Arc<Semaphore>,
}

/// Trials of connections at once, over all organisations: each can last as
/// long as its time limit.
const MAX_TRIALS: usize = 16;

impl Connections {
    /// Takes what the configuration declares, as `((org_id, name),
    /// connection)`.
    pub fn new(declared: impl IntoIterator<Item = (FullName, Connection)>) -> Self {
        Self {
            declared: declared.into_iter().map(|(name, one)| (name, Arc::new(one))).collect(),
            stored: ArcSwap::default(),
            keyring: Keyring::empty(),
            local_folders: Vec::new(),
            trials: Arc::new(Semaphore::new(MAX_TRIALS)),
        }
    }

    /// With the keys that open stored secrets, and the folders that stored
    /// connections may lead to.
    #[must_use]
    pub fn with(mut self, keyring: Keyring, local_folders: Vec<PathBuf>) -> Self {
        self.keyring = keyring;
        self.local_folders = local_folders;
        self
    }

    /// The organisation's connection of that name. What the configuration
    /// declares goes before what is stored.
    pub fn get(&self, org_id: &str, name: &str) -> Option<Arc<Connection>> {
        let name = (org_id.to_owned(), name.to_owned());
        self.declared.get(&name).or(self.stored.load().by_name.get(&name)).cloned()
    }

    /// Whether the configuration declares the organisation's connection of
    /// that name, which may then lead anywhere.
    pub fn is_declared(&self, org_id: &str, name: &str) -> bool {
        self.declared.contains_key(&(org_id.to_owned(), name.to_owned()))
    }

    /// What the configuration declares for an organisation, in the order of
    /// the names.
    pub fn declared(&self, org_id: &str) -> impl Iterator<Item = (&str, &Connection)> {
        let first = (org_id.to_owned(), String::new());
        let of_it = self.declared.range(first..).take_while(move |((org, _), _)| org == org_id);
        of_it.map(|((_, name), connection)| (name.as_str(), connection.as_ref()))
    }

    /// The keys that seal and open stored secrets.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The folders that stored connections may lead to.
    pub fn local_folders(&self) -> &[PathBuf] {
        &self.local_folders
    }

    /// A place for a trial, if one is free.
    pub fn trial(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.trials).try_acquire_owned().ok()
    }

    /// Id of a change that the connections in force here are at least as new
    /// as.
    pub fn version(&self) -> i64 {
        self.stored.load().version
    }

    /// Brings stored connections into force, unless newer ones are: of two
    /// reads of the store that overtake each other, the later one stays.
    pub fn put(&self, stored: Stored) {
        let fresh = Arc::new(stored);
        self.stored.rcu(|current| {
            Arc::clone(if current.version > fresh.version { current } else { &fresh })
        });
    }

    /// The URLs of all databases.
    pub fn sql_urls(&self) -> Vec<SecretString> {
        let stored = self.stored.load();
        let all = self.declared.values().chain(stored.by_name.values());
        let urls = all.filter_map(|connection| match connection.as_ref() {
            Connection::Sql { url } => Some(url.clone()),
            _ => None,
        });
        urls.collect()
    }
}

/// The id of a connection that the configuration declares: it has no row that
/// could give it one.
pub fn declared_id(org_id: &str, name: &str) -> Uuid {
    let hash = blake3::hash(format!("connection/{org_id}/{name}").as_bytes());
    let mut id = [0; 16];
    for (to, from) in id.iter_mut().zip(hash.as_bytes()) {
        *to = *from;
    }
    Builder::from_custom_bytes(id).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(version: i64, name: &str) -> Stored {
        let connection = Arc::new(Connection::Sql { url: "sqlite://stored".into() });
        Stored { version, by_name: [(("acme".into(), name.into()), connection)].into() }
    }

    #[test]
    fn an_older_read_of_the_store_never_takes_the_place_of_a_newer_one() {
        let connections = Connections::new([]);
        connections.put(stored(2, "new"));
        connections.put(stored(1, "old"));
        assert!(connections.get("acme", "new").is_some());
        assert!(connections.get("acme", "old").is_none());
        assert!(connections.get("other", "new").is_none());
        connections.put(stored(3, "old"));
        assert!(connections.get("acme", "new").is_none());
    }

    #[test]
    fn trials_are_counted_and_give_their_places_back() {
        let connections = Connections::new([]);
        let taken: Vec<_> = (0..MAX_TRIALS).map(|_| connections.trial().unwrap()).collect();
        assert!(connections.trial().is_none());
        drop(taken);
        assert!(connections.trial().is_some());
    }

    #[test]
    fn what_the_configuration_declares_goes_before_what_is_stored() {
        let declared = Connection::Http {
            base_url: "x".into(),
            headers: BTreeMap::new(),
            signing_secrets: Vec::new(),
        };
        let connections = Connections::new([(("acme".into(), "w".into()), declared)]);
        connections.put(stored(1, "w"));
        assert_eq!(connections.get("acme", "w").unwrap().kind(), Kind::Http);
        assert_eq!(connections.declared("acme").count(), 1);
        assert_eq!(connections.declared("acm").count(), 0);
    }
}
