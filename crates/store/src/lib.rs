//! Resources at gap-free revisions, in SQLite or PostgreSQL.
//!
//! [`Store`] applies all [`RecordedChanges`] of a commit or none. [`Replica`] holds the snapshot that decisions are made in, and
//! is the one follower of the store in a process. [`Recorder`] stores rows of audit and usage, and `usage_sums` adds the latter up. This crate does not decide what may be written, nor by
//! whom.

mod audit_log;
mod canary;
mod commit;
mod commits;
mod connection;
mod counters;
mod database;
mod durability;
mod error;
mod exclusive;
mod journal;
mod limit_counters;
mod master_key;
mod notices;
mod open;
mod ownership;
mod recent;
mod record_group;
mod recorder;
mod replica;
mod resources;
mod retention;
mod rows;
mod signing_keys;
mod sqlite;
mod token_uses;
pub mod transfer;
mod usage_sums;
mod vault;

pub use audit_log::{AuditEvent, AuditQuery};
pub use commit::{Author, CommitError, RecordedChanges, WriteLock};
pub use counters::{CounterChange, CounterKey, MAX_LOOKUP};
pub use database::{Location, Store};
pub use durability::Durability;
pub use error::{StoreError, StoreFault};
pub use journal::{
    Confirmation, Discontinuity, HandOverError, HandedOver, JournalBatch, JournalVolume, Report,
    ReportedLine, ReportingAgent,
};
pub use limit_counters::{LimitCounter, LimitKey};
pub use master_key::Resealed;
pub use open::OpenError;
pub use ownership::{Ownership, OwnershipError};
pub use recorder::Recorder;
pub use replica::Replica;
pub use resources::Feed;
pub use rows::{AuditFilter, AuditRow, Decision, UsageFilter, UsageRow};
pub use signing_keys::{RotationError, SigningKeys};
pub use usage_sums::{UsageAccount, UsagePart, UsageParts, UsageQuery, UsageSums, UsageTime};
