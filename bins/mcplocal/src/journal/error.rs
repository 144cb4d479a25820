//! Why no entry can be recorded, and what its user can do.

use std::io;

use mcpctl_journal::HeadError;

/// Why no entry can be recorded.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file at its path is gone.
    #[error("it was deleted while the agent ran")]
    Deleted,
    /// Another file is at its path.
    #[error("another file was put in its place while the agent ran")]
    Replaced,
    /// It is shorter than what was written.
    #[error("lines were removed from it while the agent ran")]
    Shortened,
    /// Its mode forbids writing.
    #[error("it is read-only")]
    ReadOnly,
    /// Another user could change it.
    #[error("it belongs to another user, or others may write to it")]
    NotPrivate,
    /// It is no regular file.
    #[error("it is not a regular file")]
    NotRegular,
    /// What was written is not on the disk.
    #[error("it is not on the disk: {0}")]
    NotSynced(String),
    /// The last write failed; the next one tries again.
    #[error("{0}")]
    LastWrite(String),
    /// The file of its head cannot be written.
    #[error("its head `journal.head`: {0}")]
    Head(#[from] HeadError),
    /// The file system returned an error.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl JournalError {
    /// What its user can do.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Deleted | Self::Replaced | Self::Shortened | Self::NotRegular => {
                "keep the files of the journal as evidence, then restart: `mcpctl local down`, `mcpctl local up`"
            }
            Self::ReadOnly | Self::NotPrivate => "give it to this user with mode 0600",
            Self::NotSynced(_) | Self::LastWrite(_) | Self::Head(_) | Self::Io(_) => {
                "make room, or check the disk; the next request tries again"
            }
        }
    }
}
