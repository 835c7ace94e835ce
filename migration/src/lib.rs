//! Portable, append-only schema migrations, for SQLite and Postgres alike.
//!
//! A migration that has landed is never edited; a change is a new one.

pub use sea_orm_migration::{MigratorTrait, prelude::*};

mod m20261123_000001_management;
mod m20261123_000002_executions;
mod m20261123_000003_audit;
mod m20261123_000004_keys;
mod m20261123_000005_connections;
mod m20261123_000006_usage;
mod m20261123_000007_retention;
mod m20261123_000008_history;
mod m20261123_000009_declared;
mod m20261123_000010_idempotency;
mod m20261123_000011_webhooks;
mod m20261123_000012_reruns;
mod m20261123_000014_sources;

/// All migrations, in order.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_management::Migration),
            Box::new(m20261123_000002_executions::Migration),
            Box::new(m20261123_000003_audit::Migration),
            Box::new(m20261123_000004_keys::Migration),
            Box::new(m20261123_000005_connections::Migration),
            Box::new(m20261123_000006_usage::Migration),
            Box::new(m20261123_000007_retention::Migration),
            Box::new(m20261123_000008_history::Migration),
            Box::new(m20261123_000009_declared::Migration),
            Box::new(m20261123_000010_idempotency::Migration),
            Box::new(m20261123_000011_webhooks::Migration),
            Box::new(m20261123_000012_reruns::Migration),
            Box::new(m20261123_000014_sources::Migration),
        ]
    }
}
