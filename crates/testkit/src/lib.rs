//! What tests run against: real servers that do as they are told. A dev-dependency and nothing else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "only tests use this crate; a broken fixture fails the test where it stands"
)]

pub mod daemons;
pub mod exchange;
pub mod link;
pub mod model_server;
#[cfg(target_os = "linux")]
pub mod other_user;
pub mod postgres;
pub mod process;
pub mod python;
pub mod raw;
