//! Attacks on whole daemons: one test per finding, and one per line of what holds. Each file is one family of attacks.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod browsers;
mod connections;
mod credentials;
mod documents;
mod files;
mod logins;
mod oracles;
mod records;
mod rights;
mod secrets;
mod upstreams;
mod watch;
mod wire;
mod writers;
