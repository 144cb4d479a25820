//! Resources at gap-free revisions, over SQLite or PostgreSQL, and what follows them.
//!
//! [`Store`] keeps them and takes all changes of a commit or none. [`Replica`] holds the snapshot that decisions are
//! made in, and knows when it is fresh enough. [`Recorder`] takes rows of audit and usage. What may be written, and by
//! whom, is decided before anything gets here.

mod canary;
mod commit;
mod connection;
mod counters;
mod database;
mod error;
mod recorder;
mod replica;
mod resources;
mod retention;
mod rows;
mod vault;

pub use commit::{CommitError, WriteLock};
pub use counters::{CounterChange, CounterKey, MAX_LOOKUP};
pub use database::{Location, OpenError, Store};
pub use error::{StoreError, Trouble};
pub use recorder::Recorder;
pub use replica::Replica;
pub use resources::Feed;
pub use rows::{AuditFilter, AuditRow, Decision, UsageFilter, UsageRow};
