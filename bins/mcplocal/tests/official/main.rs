//! The official clients of OpenAI and Anthropic, for Python and for Node, pointed at both daemons with nothing but a base URL and a
//! key: what their users do daily, over scripted upstreams of every dialect and over a real llama-server. Each client has one script
//! of named scenarios; the tests say in which cells of the table they run, and what has to come out.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod client;
mod failover;
mod llama_server;
mod scripted;
