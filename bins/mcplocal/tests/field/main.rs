//! What providers and clients really send, on whole daemons: one file a subject.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod access_log;
mod addresses;
mod answers;
mod connections;
mod encodings;
mod idle;
mod keys;
mod kills;
mod llm_names;
mod missing;
mod otlp;
mod pipes;
mod refusals;
mod server_keys;
mod traces;
