//! The integration tests: one binary, one module per behaviour.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "clippy.toml exempts the test functions, not the helpers beside them"
)]

mod dependencies;
