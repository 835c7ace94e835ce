//! The integration tests: one binary, one module per behaviour.
// Clippy takes only the `#[test]` functions here for tests, not their helpers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod demo;
mod fields;
mod invoices;
