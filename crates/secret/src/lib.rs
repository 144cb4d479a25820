//! Secrets and how they are kept: bearer tokens, passwords, and encryption of rows at rest and of long streams.
//!
//! This crate mints, compares, seals and opens. It decides nothing about who may do what (`access`), and it
//! stores nothing except the master key's file. Every secret it hands out is wiped from memory when dropped
//! and prints as `[redacted]`.

mod armor;
pub mod envelope;
pub mod master_key_file;
pub mod password;
pub mod query;
mod random;
pub mod stream;
pub mod token;

pub use armor::ShapeError;
pub use random::RandomError;
