//! Millrace: an execution engine that turns document workflows into REST APIs
//! that people can rely on. `docs/ARCHITECTURE.md` is the map.

pub mod api;
pub mod app;
pub mod cidr;
pub mod cli;
pub mod clock;
pub mod config;
pub mod connections;
pub mod documents;
pub mod engine;
pub mod error;
pub mod faults;
pub mod form;
pub mod ids;
pub mod llm;
pub mod outbound;
pub mod sandbox;
pub mod schema;
pub mod secrets;
pub mod sql_pools;
pub mod steps;
pub mod store;
pub mod telemetry;
pub mod usage;
