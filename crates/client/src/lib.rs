//! A typed client of mcpd's API, the probe, and the file that remembers who is signed in where.
//!
//! It carries questions and answers; what an answer means is decided by those who ask.

mod client;
pub mod config;
mod probe;
mod stream;

pub use client::{Changed, Chat, Client, ClientError, Options};
pub use probe::Probe;
pub use stream::{ChatStream, Delta, ServedBy};
