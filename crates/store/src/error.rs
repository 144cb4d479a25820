//! Why the store did not do what it was asked, and what an operator can do about it.

use std::sync::Arc;

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer or refused.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The file that was opened is no longer at its path, so what is written to it would be lost.
    #[error("the database file was deleted or replaced while mcpd ran")]
    FileMoved,
    /// There was no answer in time.
    #[error("the database did not answer within {0} s")]
    NoAnswer(u64),
    /// A row does not hold what it should.
    #[error("{kind} `{id}` in the database cannot be read: {reason}")]
    Unreadable {
        /// Its kind.
        kind: String,
        /// Its id.
        id: String,
        /// What is wrong.
        reason: String,
    },
    /// The task that answers has ended.
    #[error("the {0} has ended")]
    Ended(&'static str),
    /// A fresh snapshot could not be had; all who waited for it share the cause.
    #[error("no fresh snapshot: {}", detail(.0))]
    NotFresh(Arc<StoreError>),
    /// Rows could not be put on record; all whose rows went together share the cause.
    #[error("not on record: {}", detail(.0))]
    NotRecorded(Arc<StoreError>),
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

/// What kind of trouble the database is in, in words that name no address, user or path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room for another row.
    Full,
    /// It can be read and not written.
    ReadOnly,
    /// Another program holds its lock.
    Locked,
    /// Its file was deleted or replaced.
    FileMoved,
    /// Its disk reports errors.
    Disk,
    /// It does not answer, or anything else.
    Other,
}

impl Trouble {
    /// One line for callers.
    pub fn message(self) -> &'static str {
        match self {
            Self::Full => "the disk of the store is full",
            Self::ReadOnly => "the store is read-only",
            Self::Locked => "another program holds the lock of the store",
            Self::FileMoved => "the file of the store was deleted or replaced while mcpd ran",
            Self::Disk => "the disk of the store reports errors",
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
            Self::Disk | Self::Other => "the log of mcpd has the details",
        }
    }
}

impl StoreError {
    /// What kind of trouble this comes from.
    pub fn trouble(&self) -> Trouble {
        match self {
            Self::Database(error) => database_trouble(error),
            Self::FileMoved => Trouble::FileMoved,
            Self::NotFresh(cause) | Self::NotRecorded(cause) => cause.trouble(),
            Self::NoAnswer(_) | Self::Unreadable { .. } | Self::Ended(_) | Self::Vault(_) => Trouble::Other,
        }
    }
}

fn database_trouble(error: &sqlx::Error) -> Trouble {
    let sqlx::Error::Database(error) = error else { return Trouble::Other };
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some() {
        // https://www.sqlite.org/rescode.html: the low byte of an extended code is the primary one.
        return match code.parse::<u32>().unwrap_or_default() {
            1032 => Trouble::FileMoved,
            extended => match extended & 0xff {
                5 | 6 => Trouble::Locked,
                8 => Trouble::ReadOnly,
                10 => Trouble::Disk,
                13 => Trouble::Full,
                _ => Trouble::Other,
            },
        };
    }
    // https://www.postgresql.org/docs/current/errcodes-appendix.html
    match &*code {
        "53100" => Trouble::Full,
        "25006" => Trouble::ReadOnly,
        "55P03" => Trouble::Locked,
        "58030" => Trouble::Disk,
        _ => Trouble::Other,
    }
}
