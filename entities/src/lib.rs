//! SeaORM entities: the rows of the store, without logic.

#![allow(missing_docs, reason = "the entity derive makes public items without comments")]

pub mod api_key;
pub mod audit_entry;
pub mod change;
pub mod change_counter;
pub mod connection;
pub mod deployment;
pub mod deployment_revision;
pub mod document_ref;
pub mod enums;
pub mod execution;
pub mod execution_tag;
pub mod file_history;
pub mod former_deployment;
pub mod idempotency_key;
pub mod key_use;
pub mod node;
pub mod organisation;
pub mod platform_key;
pub mod setting;
pub mod source_run;
pub mod step_run;
pub mod usage_counter;
pub mod usage_flush;
pub mod webhook_attempt;
pub mod webhook_delivery;
pub mod workflow;
