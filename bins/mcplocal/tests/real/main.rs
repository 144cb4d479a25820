//! Whole daemons with real model servers on this machine's processor, and a real small model: `cargo xtask test` runs the tests
//! with llama-server, `cargo xtask test engines` those with vLLM too. Both run the same stories.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod family;
mod llama_server;
mod setup;
mod stories;
mod vllm;
