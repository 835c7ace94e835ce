//! The integration tests: one binary, one module per behaviour.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml exempts the test functions, not the helpers beside them"
)]

mod cancel;
mod committer;
mod crash;
mod demo;
mod dependencies;
mod documents;
mod invoices;
mod life;
mod load;
mod readme;
mod store;
mod streaming;
mod supervision;
mod support;
