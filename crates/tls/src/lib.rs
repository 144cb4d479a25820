//! TLS of this process: the configuration of its clients and of its server, made of files that are read again when they change, and
//! what its errors mean for a person.
//!
//! The clients that trust this machine's authorities share one configuration, so that those are read once. That takes milliseconds,
//! and only connections over TLS need them, so the first of those reads them, unless [`load`] was called.

mod any_certificate;
mod client;
mod client_identity;
mod error;
mod file_verifier;
mod pem;
mod platform_verifier;
mod problem;
mod reloaded;
mod server;

pub use client::{ClientFiles, ClientTls, client_config, load};
pub use error::TlsError;
pub use problem::{TlsFault, TlsProblem};
pub use reloaded::Refreshed;
pub use server::{ServerFiles, ServerTls, not_after};
