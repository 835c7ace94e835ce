//! The shared map from keys and names to deployments. Requests read it
//! without a mailbox or a database; only the key registry writes it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::{Addr, Handler, Message};
use arc_swap::{ArcSwap, ArcSwapOption};
use chrono::{DateTime, Utc};
use dashmap::DashMap;
use millrace_entities::enums::Tier;
use millrace_entities::{api_key, deployment, organisation, platform_key};
use uuid::Uuid;

use super::admission::Gauge;
use super::deployment::Deployment;
use super::live::LiveMap;
use super::plan::Revision;
use super::uses::Uses;
use crate::ids::KeyHash;

/// A deployment as requests find it.
pub struct Entry {
    /// Primary key.
    pub id: Uuid,
    /// Whose deployment it is.
    pub organisation_id: Uuid,
    /// Slug of that organisation.
    pub org_id: String,
    /// `dep_…`
    pub public_id: String,
    /// Name in Unstract's form of the routes.
    pub api_name: ArcSwap<String>,
    /// What new executions run on.
    pub revision: ArcSwap<Revision>,
    /// Whether it takes submissions.
    pub active: AtomicBool,
    /// Executions on this node that wait or run.
    pub live: Arc<LiveMap>,
    /// Executions accepted and not ended; outlives the actor.
    pub accepted: Gauge,
    /// The actor; replaced when it died.
    pub address: ArcSwapOption<Addr<Deployment>>,
}

impl Entry {
    /// An entry without an actor.
    pub(super) fn new(row: &deployment::Model, org_id: &str, revision: Revision) -> Self {
        Self {
            id: row.id,
            organisation_id: row.organisation_id,
            org_id: org_id.to_owned(),
            public_id: row.public_id.clone(),
            api_name: ArcSwap::from_pointee(row.api_name.clone()),
            revision: ArcSwap::from_pointee(revision),
            active: AtomicBool::new(row.is_active),
            live: Arc::default(),
            accepted: Gauge::default(),
            address: ArcSwapOption::empty(),
        }
    }

    /// Whether its actor lives.
    pub fn is_alive(&self) -> bool {
        self.address.load().as_ref().is_some_and(|address| address.connected())
    }

    /// Sends to its actor and waits until it is handled. False if there is no
    /// actor to handle it: what a dead one missed, its successor learns from
    /// the store and the live map.
    pub async fn tell<M>(&self, message: M) -> bool
    where
        M: Message<Result = ()> + Send + 'static,
        Deployment: Handler<M>,
    {
        match self.address.load_full() {
            Some(address) => address.send(message).await.is_ok(),
            None => false,
        }
    }

    /// Whether it takes submissions.
    pub fn is_active(&self) -> bool {
        self.active.load(Ordering::Acquire)
    }
}

/// What is known of a deployment's key.
#[derive(Debug, Clone)]
struct DeploymentKey {
    id: Uuid,
    deployment_id: Uuid,
    expires_at: Option<DateTime<Utc>>,
}

/// An organisation's platform key, as its bearer is known.
#[derive(Debug, Clone)]
pub struct Manager {
    /// The key.
    pub key_id: Uuid,
    /// The organisation.
    pub organisation_id: Uuid,
    /// Its slug.
    pub org_id: String,
    /// The key's name for people.
    pub name: String,
    /// What the key may do.
    pub tier: Tier,
    expires_at: Option<DateTime<Utc>>,
}

/// A deployment and the key that opened it.
#[derive(Clone)]
pub struct Caller {
    /// What was called.
    pub entry: Arc<Entry>,
    /// By which key.
    pub key_id: Uuid,
    /// The key's hash, to ask again whether it still opens.
    pub key_hash: KeyHash,
}

/// Keys, names and deployments.
#[derive(Default)]
pub struct Directory {
    keys: DashMap<KeyHash, DeploymentKey>,
    managers: DashMap<KeyHash, Manager>,
    entries: DashMap<Uuid, Arc<Entry>>,
    /// Deployments that were deleted, until their last execution has ended.
    retired: DashMap<Uuid, Arc<Entry>>,
    public_ids: DashMap<String, Uuid>,
    /// When keys were used last, until the store has it.
    pub uses: Uses,
}

impl Directory {
    /// Who bears the deployment key of that hash, if it is active and has not
    /// expired.
    pub fn caller(&self, hash: &KeyHash, now: DateTime<Utc>) -> Option<Caller> {
        let key = self.keys.get(hash)?.clone();
        if key.expires_at.is_some_and(|end| end <= now) {
            return None;
        }
        let entry = self.entry(key.deployment_id)?;
        self.uses.mark(key.id, now);
        Some(Caller { entry, key_id: key.id, key_hash: *hash })
    }

    /// Who bears the platform key of that hash, if it is active and has not
    /// expired.
    pub fn manager(&self, hash: &KeyHash, now: DateTime<Utc>) -> Option<Manager> {
        let manager = self.managers.get(hash)?.clone();
        if manager.expires_at.is_some_and(|end| end <= now) {
            return None;
        }
        self.uses.mark(manager.key_id, now);
        Some(manager)
    }

    /// The deployment of that id.
    pub fn entry(&self, id: Uuid) -> Option<Arc<Entry>> {
        self.entries.get(&id).map(|entry| entry.clone())
    }

    /// The deployment of that public id.
    pub fn entry_named(&self, public_id: &str) -> Option<Arc<Entry>> {
        let id = *self.public_ids.get(public_id)?;
        self.entry(id)
    }

    /// The deployment of that id, also one that was deleted and whose last
    /// executions still run.
    pub fn at_work(&self, id: Uuid) -> Option<Arc<Entry>> {
        let retired = || self.retired.get(&id).map(|entry| entry.clone());
        // Nobody starts what waits with an actor that died.
        self.entry(id).or_else(|| retired().filter(|entry| entry.is_alive()))
    }

    /// All deployments, also those that [`Self::at_work`] finds.
    pub fn all_at_work(&self) -> Vec<Arc<Entry>> {
        self.entries.iter().chain(self.retired.iter()).map(|entry| entry.clone()).collect()
    }

    /// All deployments.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.entries.iter().map(|entry| entry.clone()).collect()
    }

    pub(super) fn put_entry(&self, entry: Arc<Entry>) {
        self.public_ids.insert(entry.public_id.clone(), entry.id);
        self.entries.insert(entry.id, entry);
    }

    /// Closes a deployment to its callers; it stays at work until
    /// [`Self::forget`].
    pub(super) fn retire(&self, id: Uuid) -> Option<Arc<Entry>> {
        self.keys.retain(|_, key| key.deployment_id != id);
        let entry = self.entry(id)?;
        self.retired.insert(id, Arc::clone(&entry));
        self.entries.remove(&id);
        self.public_ids.remove(&entry.public_id);
        Some(entry)
    }

    /// Forgets a deployment that was deleted.
    pub(super) fn forget(&self, id: Uuid) {
        self.retired.remove(&id);
    }

    /// Makes the deployment's keys exactly `rows`. What is taken away is gone
    /// before this returns.
    pub(super) fn put_keys(&self, deployment_id: Uuid, rows: &[api_key::Model]) {
        for row in rows {
            let Some(hash) = hash_of(&row.hash) else { continue };
            if row.is_active {
                let key = DeploymentKey { id: row.id, deployment_id, expires_at: row.expires_at };
                self.keys.insert(hash, key);
            } else {
                self.keys.remove(&hash);
            }
        }
    }

    /// Makes the organisation's platform keys exactly `rows`. What is taken
    /// away is gone before this returns.
    pub(super) fn put_managers(
        &self,
        organisation_id: Uuid,
        rows: &[(platform_key::Model, organisation::Model)],
    ) {
        let mut open = HashSet::new();
        for (key, of) in rows.iter().filter(|(key, _)| key.is_active) {
            let Some(hash) = hash_of(&key.hash) else { continue };
            let manager = Manager {
                key_id: key.id,
                organisation_id,
                org_id: of.slug.clone(),
                name: key.name.clone(),
                tier: key.tier,
                expires_at: key.expires_at,
            };
            self.managers.insert(hash, manager);
            open.insert(hash);
        }
        let stays = |hash: &KeyHash, manager: &Manager| {
            manager.organisation_id != organisation_id || open.contains(hash)
        };
        self.managers.retain(|hash, manager| stays(hash, manager));
    }

    /// The organisations of all platform keys.
    pub(super) fn organisations(&self) -> HashSet<Uuid> {
        self.managers.iter().map(|manager| manager.organisation_id).collect()
    }
}

fn hash_of(bytes: &[u8]) -> Option<KeyHash> {
    bytes.try_into().ok().map(KeyHash)
}
