//! Programs that people use, from their own registries, against a whole mcpd and a scripted model server: they are large, so
//! `cargo xtask test clients` runs them and no other run does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod codex;
