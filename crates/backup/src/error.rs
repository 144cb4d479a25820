//! Why a backup cannot be read.

use std::io;

use mcpctl_secret::{envelope::KeyId, stream::Tampered};

/// Why a backup cannot be read. The message is one line about the file, without its name; [`BackupError::hint`] has the next step.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It does not begin as a backup does.
    #[error("it is not a backup of mcpd")]
    NotABackup,
    /// It has a later format.
    #[error(
        "it was written by a newer version of mcpd: it has format {found}, and this mcpd reads format {known}"
    )]
    Newer {
        /// Its format.
        found: u32,
        /// The latest that is known.
        known: u32,
    },
    /// It is encrypted with another master key.
    #[error("it was made with master key `{id}`, which is not this one")]
    WrongKey {
        /// The key that is needed.
        id: KeyId,
    },
    /// It was changed or cut, or the disk has lost a part of it.
    #[error("it is damaged or incomplete: {0}")]
    Damaged(String),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
}

impl BackupError {
    /// The next step, if there is one.
    pub const fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotABackup => "name a file that `mcpd backup` has written",
            Self::Newer { .. } => "use at least the version of mcpd that wrote it",
            Self::WrongKey { .. } => {
                "give the key file of the mcpd that it was made from with --master-key-file; after `mcpd rotate-master-key` that is the old one"
            }
            Self::Damaged(_) => "use another backup; nothing of this one was restored",
            Self::Io(_) => return None,
        })
    }
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        if error.get_ref().is_some_and(|source| source.is::<Tampered>()) {
            return Self::Damaged(error.to_string());
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Damaged("it ends too early".to_owned()),
            io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

impl From<serde_json::Error> for BackupError {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged(error.to_string())
    }
}
