//! Millrace: an execution engine that turns document workflows into REST APIs
//! that people can rely on. `docs/ARCHITECTURE.md` is the map.

pub mod cli;
pub mod connections;
pub mod documents;
pub mod sandbox;
pub mod steps;
