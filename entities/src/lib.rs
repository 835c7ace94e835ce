//! SeaORM entities: the rows of the store, without logic.

#![allow(missing_docs, reason = "the entity derive makes public items without comments")]

pub mod api_key;
pub mod audit_entry;
pub mod connection;
pub mod deployment;
pub mod deployment_revision;
pub mod enums;
pub mod execution;
pub mod node;
pub mod organisation;
pub mod platform_key;
pub mod setting;
pub mod step_run;
pub mod workflow;
