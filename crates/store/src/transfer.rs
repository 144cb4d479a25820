//! A store as a stream of rows that either database can take, for backups and for moving between databases. [`Source`] reads one
//! state of a store, whatever is done to it meanwhile; [`Target`] takes it, completely or not at all. Which tables there are is read from
//! the database, so that a table of a later migration is never left out.

mod check;
mod error;
mod file;
mod layout;
mod link;
mod reservation;
mod rows;
mod source;
mod target;

pub use check::{Check, Problem};
pub use error::TransferError;
pub use file::Occupied;
pub use layout::{Column, ColumnKind, Layout, Table};
pub use reservation::Reservation;
pub use rows::{Batch, Tally, Values};
pub use source::Source;
pub use target::{Restoration, Target};

/// Batches on their way between reading and writing.
const QUEUED_BATCHES: usize = 8;

/// A channel for batches: a reader that is faster than the writer waits.
pub fn channel() -> (tokio::sync::mpsc::Sender<Batch>, tokio::sync::mpsc::Receiver<Batch>) {
    tokio::sync::mpsc::channel(QUEUED_BATCHES)
}
