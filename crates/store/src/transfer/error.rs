//! Why a store cannot be read or written as a whole, and what to do about it.

use std::path::PathBuf;

use crate::ownership::OwnershipError;

/// Why a store was not transferred. The message is one line; [`TransferError::hint`] has the next step.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no database of mcpd.
    #[error("there is no database of mcpd at {place}")]
    Missing {
        /// The file, or the server without its password.
        place: String,
    },
    /// The database does not respond, or rejects the connection.
    #[error("the database {place} cannot be opened: {reason}")]
    Unavailable {
        /// The file, or the server without its password.
        place: String,
        /// The database's message.
        reason: String,
    },
    /// A newer version of mcpd wrote it.
    #[error(
        "{what} was written by a newer version of mcpd: it has layout {found}, and this mcpd knows layouts up to {known}"
    )]
    Newer {
        /// The database or the backup.
        what: String,
        /// Its layout.
        found: i64,
        /// The latest that is known.
        known: i64,
    },
    /// An earlier version of mcpd wrote it, and what is asked for takes the layout of this one.
    #[error(
        "{what} was written by an earlier version of mcpd: it has layout {found}, and this is for layout {known}"
    )]
    Older {
        /// The database.
        what: String,
        /// Its layout.
        found: i64,
        /// The one of this program.
        known: i64,
    },
    /// An upgrade of the schema was interrupted, or the schema was changed by hand.
    #[error("the tables of {what} are not those of layout {version}: {detail}")]
    Layout {
        /// The database or the backup.
        what: String,
        /// The layout.
        version: i64,
        /// The first difference.
        detail: String,
    },
    /// Another program's tables are there.
    #[error("{what} has a table `{table}` of another program")]
    Foreign {
        /// The database.
        what: String,
        /// The first such table.
        table: String,
    },
    /// Its secrets are sealed with another key.
    #[error("the master key is not the one that {place} was made with")]
    WrongMasterKey {
        /// The file, or the server without its password.
        place: String,
    },
    /// The target has resources or records.
    #[error("the database {place} is not empty")]
    NotEmpty {
        /// The file, or the server without its password.
        place: String,
    },
    /// An mcpd serves it.
    #[error(transparent)]
    Served(#[from] OwnershipError),
    /// One or more mcpd use the PostgreSQL database.
    #[error("mcpd runs on the database {place}: it has {}", connections(*.count))]
    InUse {
        /// The server without its password.
        place: String,
        /// How many connections.
        count: i64,
    },
    /// Another command has the PostgreSQL database to itself.
    #[error("another command of mcpd has the database {place} to itself")]
    Reserved {
        /// The server without its password.
        place: String,
    },
    /// Another program holds locks on its tables.
    #[error("another program holds a lock on tables of mcpd")]
    Locked,
    /// Something was written to the source.
    #[error("the store in {place} was changed while it was read")]
    Changed {
        /// The file, or the server without its password.
        place: String,
    },
    /// Another program has the file open, or it is damaged.
    #[error("the database `{}` cannot be replaced: {reason}", .place.display())]
    CannotReplace {
        /// The file.
        place: PathBuf,
        /// The database's message.
        reason: String,
    },
    /// The write-ahead log, which cannot begin anew while a snapshot is read, became too long.
    #[error("the database's write-ahead log grew beyond {mebibytes} MiB while it was read")]
    LogTooLong {
        /// The bound.
        mebibytes: u64,
    },
    /// What was written is not what was read.
    #[error("table `{table}` has {found} after writing, and {expected} were read")]
    Differs {
        /// The table.
        table: String,
        /// What was read.
        expected: String,
        /// What was written.
        found: String,
    },
    /// The file system failed.
    #[error("`{}` cannot be written: {reason}", .place.display())]
    Io {
        /// The file.
        place: PathBuf,
        /// The error of the system.
        #[source]
        reason: std::io::Error,
    },
    /// Its pages are not those that SQLite wrote.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(String),
    /// The other end ended: it has the reason.
    #[error("the transfer was given up")]
    GivenUp,
}

impl TransferError {
    /// The next step, if there is one.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Missing { .. } => {
                "name the data directory of the running mcpd with --data-dir, or its PostgreSQL with --database-url-file"
            }
            Self::Unavailable { .. } => {
                "check address, user and password, that the server runs, or that this user may read and write the file"
            }
            Self::Newer { .. } => "use at least the version of mcpd that wrote it",
            Self::Older { .. } => {
                "take a backup, start this mcpd once, which upgrades the store, and try again; or use the version that wrote it"
            }
            Self::Layout { .. } => {
                "start the mcpd that wrote it once, which completes an interrupted upgrade, and try again"
            }
            Self::WrongMasterKey { .. } => "give the right key with --master-key-file",
            Self::NotEmpty { .. } => {
                "name an empty database or an empty --data-dir; `mcpd restore --replace` deletes what is there"
            }
            Self::Served(error) => return Some(error.hint().to_owned()),
            Self::InUse { .. } => "stop every mcpd on it first",
            Self::Foreign { .. } => "name an empty database; nothing of this one was changed",
            Self::Reserved { .. } => "wait until it has ended, and try again",
            Self::Locked => "stop every mcpd and end other programs on the database first",
            Self::Changed { .. } => {
                "nothing was moved; stop what writes to it, as `mcpd bootstrap-token` does, and try again"
            }
            Self::CannotReplace { .. } => {
                "end the other programs that have it open; move a damaged one away, with its -wal and -shm files, and restore without --replace"
            }
            Self::LogTooLong { .. } => "try again when less is written, or write the backup to a faster disk",
            Self::Differs { .. } => {
                "nothing was changed at the target; try again, and check the disk if it happens again"
            }
            Self::Io { .. } => "check that the disk has room and that this user may write there",
            Self::Damaged(_) => {
                "move it away, with its -wal and -shm files, and restore the last good backup with `mcpd restore`"
            }
            Self::Database(_) => "check that the database runs and has room; its own log has the details",
            Self::GivenUp => "try again, and report it if it happens again",
        };
        Some(hint.to_owned())
    }

    /// The error with the table that it is about.
    pub(super) fn of_table(self, table: &str) -> Self {
        match self {
            Self::Database(reason) => Self::Database(format!("table `{table}`: {reason}")),
            Self::Damaged(reason) => Self::Damaged(format!("table `{table}`: {reason}")),
            other => other,
        }
    }
}

fn connections(count: i64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

impl From<sqlx::Error> for TransferError {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        match code.as_deref() {
            // https://www.sqlite.org/rescode.html: SQLITE_CORRUPT and SQLITE_NOTADB. PostgreSQL's codes have five characters.
            Some("11" | "26") => Self::Damaged(error.to_string()),
            // https://www.postgresql.org/docs/current/errcodes-appendix.html: lock_not_available.
            Some("55P03") => Self::Locked,
            _ => Self::Database(error.to_string()),
        }
    }
}

impl From<sqlx::migrate::MigrateError> for TransferError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Database(error.to_string())
    }
}
