//! What tests run against: the real daemons, and servers that follow a script. Only a dev-dependency.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "only tests use this crate; a broken fixture fails the test that uses it"
)]

pub mod authority;
pub mod caller;
pub mod central;
pub mod charge;
pub mod client_table;
pub mod collector;
pub mod daemons;
pub mod deployment;
pub mod exchange;
pub mod fault_table;
pub mod faults;
pub mod gateway;
pub mod issuer;
pub mod journal;
pub mod kills;
pub mod link;
pub mod model_server;
pub mod node;
#[cfg(target_os = "linux")]
pub mod other_user;
pub mod postgres;
pub mod process;
pub mod python;
pub mod raw;
pub mod real_provider;
pub mod replicas;
pub mod response;
pub mod routes;
pub mod scripted_model;

/// How long a test waits for something that has to happen, before it fails: long enough for two loaded cores.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);
