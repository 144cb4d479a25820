//! The client against real servers on free ports: what it sends, what it makes of answers, and of faults.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod chat;
mod contexts;
mod probe;
mod requests;
mod server;
