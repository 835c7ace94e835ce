//! The integration tests: one binary, one module per behaviour.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml exempts the test functions, not the helpers beside them"
)]

mod demo;
mod dependencies;
mod documents;
mod invoices;
mod life;
#[allow(dead_code, reason = "not every helper has a test that needs it")]
mod support;
