//! The integration tests: one binary, one module per behaviour.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "clippy.toml exempts the test functions, not the helpers beside them"
)]

mod addresses;
mod audit;
mod auth;
mod callers;
mod cancel;
mod cancelled;
mod chaos;
mod committer;
mod connections;
mod content;
mod contract;
mod crash;
mod demo;
mod dependencies;
mod docs;
mod documents;
mod drain;
mod event_stream;
mod events;
mod faults;
mod flow;
mod forms;
mod http;
mod idempotency;
mod intake;
mod invoices;
mod isolation;
mod keys;
mod life;
mod limits;
mod links;
mod llm;
mod llm_server;
mod load;
mod logs;
mod manage;
mod nodes;
mod object_server;
mod objects;
mod openapi;
mod outages;
mod own_postgres;
mod platform_keys;
mod rate;
mod readme;
mod records;
mod reference;
mod refusals;
mod reload;
mod reload_files;
mod rerun;
mod retention;
mod room;
mod rotation;
mod secrets;
mod site;
mod sizes;
mod slow;
mod sources;
mod ssrf;
mod store;
mod streaming;
mod supervision;
mod support;
mod trail;
mod tries;
mod unstract_platform;
mod usage;
mod webhook_failures;
mod webhook_receiver;
mod webhooks;
mod wire;
