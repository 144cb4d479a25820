//! The command line as a person uses it: real programs, real daemons.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod agent;
mod background;
mod client_files;
mod completion;
mod contexts;
mod conversation;
mod credentials;
mod doctor;
mod editing;
mod encodings;
mod examples;
mod explain;
mod get;
#[cfg(target_os = "linux")]
mod gpu;
mod habits;
mod history;
mod init;
mod labels;
mod llm_test;
mod local;
mod mcpd_down;
mod no_fallback;
mod people;
mod pipes;
mod pty;
mod records;
mod removing;
mod resources;
mod selectors;
mod server_keys;
mod service;
mod shell;
#[cfg(target_os = "linux")]
mod squatting;
mod sso;
mod story;
mod terminal;
mod tls;
mod tools;
mod top;
mod usage;
mod width;
mod writing;
