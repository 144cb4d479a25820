//! The console, on whole daemons: one file a page, and the doors that every page is behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod accounts;
mod browser;
mod doors;
mod failovers;
mod llm;
mod llms;
mod paging;
mod people;
mod playground;
mod providers;
mod secrets;
mod sessions;
mod tokens;
mod usage;
