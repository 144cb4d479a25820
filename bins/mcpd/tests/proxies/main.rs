//! The examples of `docs/how-to/proxies.md`, run as they are printed in front of whole daemons: nginx, HAProxy and Caddy, whichever are installed.
//!
//! `cargo xtask test proxies` runs the tests with long silences too.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs
)]

mod document;
mod proxy;
mod replicas;
mod requests;
mod silences;
