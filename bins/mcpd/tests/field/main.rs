//! What daemons meet in the field, on whole daemons: one file a subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod activity;
mod addresses;
mod anthropic;
mod batches;
mod captures;
mod configuration;
mod connections;
mod credentials;
mod encodings;
mod exchange;
mod first_start;
mod freed_names;
mod health;
mod idle;
mod keys;
mod kills;
mod limits;
mod llm_tests;
mod new_keys;
mod own_tokens;
mod pipes;
mod postgres_in_trouble;
mod selectors;
mod sqlite_in_trouble;
mod store_trouble;
mod stream_options;
mod throttle;
mod tls;
mod tokens;
mod traces;
mod usage;
