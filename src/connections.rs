//! Named, secret-bearing settings of the systems that steps talk to.
//!
//! A workflow names a connection and never carries an address or a secret
//! itself, so that who may write workflows need not be who may reach the
//! warehouse.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use serde::Deserialize;

/// One outside system.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
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
        #[serde(default)]
        options: BTreeMap<String, SecretString>,
    },
}

/// The connections of all organisations.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    by_name: Arc<BTreeMap<(String, String), Connection>>,
}

impl Connections {
    /// Takes connections as `((org_id, name), connection)`.
    pub fn new(connections: impl IntoIterator<Item = ((String, String), Connection)>) -> Self {
        Self { by_name: Arc::new(connections.into_iter().collect()) }
    }

    /// The organisation's connection of that name.
    pub fn get(&self, org_id: &str, name: &str) -> Option<&Connection> {
        self.by_name.get(&(org_id.to_owned(), name.to_owned()))
    }
}
