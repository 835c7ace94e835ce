//! Object stores through OpenDAL: who may use which, and what they reach.

mod service;
mod transport;

use std::collections::BTreeMap;
use std::time::Duration;

use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::{OperationContext, Operator};
use secrecy::{ExposeSecret, SecretString};

use super::{Connection, Connections};
use crate::outbound::Outbound;

pub use service::{SERVICES, faults};
pub use transport::{Reach, is_blocked};

/// Time for one call to the store; a call is retried.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

const MAX_RETRIES: usize = 3;

/// Pause before the first retry; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Why there is no way to a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoOperator {
    /// The organisation has no such connection.
    #[error("there is no connection `{0}` of kind object_store")]
    Unknown(String),
    /// OpenDAL does not take its options; its own words could hold them.
    #[error("connection `{0}`: its service or options cannot be used")]
    Unusable(String),
}

impl NoOperator {
    /// A stable name for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "connection_unknown",
            Self::Unusable(_) => "connection_unusable",
        }
    }
}

/// The store that the organisation's connection of that name leads to, with
/// time limits and retries. What the organisation has stored itself reaches
/// only what `outbound` lets tenants reach.
///
/// # Errors
/// See [`NoOperator`]; whether the store answers is not known yet.
pub fn operator(
    connections: &Connections,
    outbound: &Outbound,
    org_id: &str,
    name: &str,
) -> Result<Operator, NoOperator> {
    let found = connections.get(org_id, name);
    let Some(Connection::ObjectStore { service, options }) = found.as_deref() else {
        return Err(NoOperator::Unknown(name.to_owned()));
    };
    let reach = Reach::of(outbound, connections.is_declared(org_id, name));
    open(service, options, reach).map_err(|_| NoOperator::Unusable(name.to_owned()))
}

/// The store of a service with options.
///
/// # Errors
/// OpenDAL's, whose text can hold addresses and options: for nobody to see.
pub fn open(
    service: &str,
    options: &BTreeMap<String, SecretString>,
    reach: Reach,
) -> Result<Operator, opendal::Error> {
    let options = options
        .iter()
        .map(|(name, value)| (name.clone(), value.expose_secret().to_owned()))
        .collect();
    let timeout = TimeoutLayer::new().with_timeout(CALL_TIMEOUT).with_io_timeout(CALL_TIMEOUT);
    let retry =
        RetryLayer::new().with_max_times(MAX_RETRIES).with_min_delay(FIRST_PAUSE).with_jitter();
    let context = OperationContext::new().with_http_transport(reach.transport());
    Ok(service::build(service, options)?.with_context(context).layer(timeout).layer(retry))
}
