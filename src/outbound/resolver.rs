//! How names become addresses, and which of them are connected to.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::Blocked;
use super::addresses::is_public;
use crate::cidr::Cidr;

/// Turns names into addresses.
#[async_trait]
pub trait Lookup: fmt::Debug + Send + Sync {
    /// All addresses of a name. Its caller limits the time.
    ///
    /// # Errors
    /// If there are none, or nobody could be asked.
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Whoever turns names into addresses; by default the operating system.
#[derive(Debug, Clone)]
pub struct Resolver(pub Arc<dyn Lookup>);

impl Default for Resolver {
    fn default() -> Self {
        Self(Arc::new(System))
    }
}

#[derive(Debug)]
struct System;

#[async_trait]
impl Lookup for System {
    async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((name, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// How far calls reach.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reach {
    /// Everywhere.
    All,
    /// Public addresses, and those that the operator allows besides.
    Public,
    /// Only those that the operator allows.
    Allowed,
}

/// Lets only addresses within its reach be connected to.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    pub(super) reach: Reach,
    pub(super) allowed: Arc<[Cidr]>,
    pub(super) resolver: Resolver,
}

impl Guard {
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        let is_allowed = || self.allowed.iter().any(|block| block.contains(address));
        match self.reach {
            Reach::All => true,
            Reach::Public => is_public(address) || is_allowed(),
            Reach::Allowed => is_allowed(),
        }
    }
}

impl Resolve for Guard {
    /// What is connected to is what was checked: a name that resolves
    /// otherwise a moment later gains nothing.
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.clone();
        Box::pin(async move {
            let found = guard.resolver.0.lookup(name.as_str()).await?;
            if found.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            let mut allowed = found.into_iter().filter(|address| guard.allows(*address)).peekable();
            if allowed.peek().is_none() {
                return Err(Blocked.into());
            }
            // The connector puts the port of the URL in the place of this one.
            let allowed: Vec<_> = allowed.map(|address| SocketAddr::new(address, 0)).collect();
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}
