//! Running requests end with their caller's access: each way of losing it, each form of request, at any replica.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod feed;
mod replicas;
mod requests;
