//! The integration tests: one binary, one module per behaviour.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml exempts the test functions, not the helpers beside them"
)]

mod audit;
mod auth;
mod cancel;
mod committer;
mod connections;
mod contract;
mod crash;
mod demo;
mod dependencies;
mod documents;
mod intake;
mod invoices;
mod isolation;
mod keys;
mod life;
mod load;
mod logs;
mod manage;
mod openapi;
mod readme;
mod refusals;
mod secrets;
mod slow;
mod store;
mod streaming;
mod supervision;
mod support;
mod wire;
