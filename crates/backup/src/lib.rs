//! The file format of mcpd's backups: a state of the store as rows, compressed and encrypted.
//!
//! A backup of version 1 is
//! `"mcpd backup 1\n" | length of the header (4, big-endian) | header | stream`.
//! The header is JSON, sealed with the master key ([`mcpctl_secret::envelope`]) and bound to the line before it. It has the key of the
//! stream ([`mcpctl_secret::stream`]), which is zstd of JSON lines: batches of rows, and in the end what all tables have, so that a
//! reader knows that it has everything. This crate neither reads a database nor decides where a file is.

mod error;
mod header;
mod line;
mod reader;
mod writer;

pub use error::BackupError;
pub use header::Header;
pub use reader::{Reader, is_backup};
pub use writer::Writer;
