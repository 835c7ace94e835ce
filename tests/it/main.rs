//! The integration tests: one binary, one module per behaviour.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml exempts the test functions, not the helpers beside them"
)]

mod auth;
mod contract;
mod corpus_text;
mod dependencies;
mod intake;
mod keys;
mod life;
mod logs;
mod manage;
mod openapi;
mod refusals;
mod slow;
mod support;
mod wire;
