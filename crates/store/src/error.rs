//! The errors of the store, and what an operator can do about each.

use std::sync::Arc;

/// Why an operation of the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not respond, or rejected the statement.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The file that was opened is no longer at its path, so that a write to it would be lost.
    #[error("the database file was deleted or replaced while mcpd ran")]
    FileMoved,
    /// The database did not respond within this time, in seconds.
    #[error("the database did not answer within {0} s")]
    NoAnswer(u64),
    /// A row is malformed.
    #[error("{kind} `{id}` in the database cannot be read: {reason}")]
    Unreadable {
        /// Kind of the resource.
        kind: String,
        /// Id of the resource.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The background task that performs the operation has ended.
    #[error("the {0} has ended")]
    Ended(&'static str),
    /// No fresh snapshot could be loaded; all waiters share the cause.
    #[error("no fresh snapshot: {}", detail(.0))]
    NotFresh(Arc<StoreError>),
    /// Rows could not be stored; all requests whose rows shared the transaction share the cause.
    #[error("not on record: {}", detail(.0))]
    NotRecorded(Arc<StoreError>),
    /// The store was sealed anew with another master key than this process has.
    #[error("the master key was rotated")]
    MasterKeyRotated,
    /// A secret could not be sealed or opened.
    #[error("a secret cannot be processed: {0}")]
    Vault(String),
}

fn detail(error: &StoreError) -> String {
    match error {
        StoreError::Database(cause) => cause.to_string(),
        other => other.to_string(),
    }
}

/// What is wrong with the database, for callers: without addresses, users or paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreFault {
    /// The disk is full.
    Full,
    /// The database is read-only.
    ReadOnly,
    /// Another program holds the lock.
    Locked,
    /// The file was deleted or replaced.
    FileMoved,
    /// The disk reports errors.
    Disk,
    /// The store was sealed anew with another master key than this process has.
    MasterKeyRotated,
    /// The database does not respond, or fails in another way.
    Other,
}

impl StoreFault {
    /// One line for callers.
    pub fn message(self) -> &'static str {
        match self {
            Self::Full => "the disk of the store is full",
            Self::ReadOnly => "the store is read-only",
            Self::Locked => "another program holds the lock of the store",
            Self::FileMoved => "the file of the store was deleted or replaced while mcpd ran",
            Self::Disk => "the disk of the store reports errors",
            Self::MasterKeyRotated => "the master key was rotated, and this mcpd has the old one",
            Self::Other => "the store does not answer",
        }
    }

    /// The next step for operators.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Full => "make room on it; mcpd recovers by itself",
            Self::ReadOnly => "make it writable again; mcpd recovers by itself",
            Self::Locked => "end the program that holds it; mcpd recovers by itself",
            Self::FileMoved => "put the file back, or restart mcpd with the one that is there now",
            Self::MasterKeyRotated => "copy the new master key to its machine and restart it",
            Self::Disk | Self::Other => "the log of mcpd has the details",
        }
    }
}

impl StoreError {
    /// What is wrong with the database.
    pub fn fault(&self) -> StoreFault {
        match self {
            Self::Database(error) => database_fault(error),
            Self::FileMoved => StoreFault::FileMoved,
            Self::NotFresh(cause) | Self::NotRecorded(cause) => cause.fault(),
            Self::MasterKeyRotated => StoreFault::MasterKeyRotated,
            Self::NoAnswer(_) | Self::Unreadable { .. } | Self::Ended(_) | Self::Vault(_) => {
                StoreFault::Other
            }
        }
    }
}

fn database_fault(error: &sqlx::Error) -> StoreFault {
    let sqlx::Error::Database(error) = error else { return StoreFault::Other };
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // https://www.sqlite.org/rescode.html: the low byte of an extended code is the primary one.
        return match code.parse::<u32>().unwrap_or_default() {
            1032 => StoreFault::FileMoved,
            extended => match extended & 0xff {
                5 | 6 => StoreFault::Locked,
                8 => StoreFault::ReadOnly,
                10 => StoreFault::Disk,
                13 => StoreFault::Full,
                _ => StoreFault::Other,
            },
        };
    }
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    match &*code {
        "53100" => StoreFault::Full,
        "25006" => StoreFault::ReadOnly,
        "55P03" => StoreFault::Locked,
        "58030" => StoreFault::Disk,
        _ => StoreFault::Other,
    }
}
