//! The head of the journal in a file of its own, so that lines that were removed from the journal's end show.

use std::{io, os::unix::fs::FileExt as _, path::Path};

use mcpctl_api::Id;
use mcpctl_owner::{
    PathError,
    file::{self, OpenMode},
};
use serde::{Deserialize, Serialize};

use crate::ChainHead;

/// Length of the file, bytes. It is constant, so that a full disk cannot keep it from being overwritten.
pub const HEAD_BYTES: usize = 1024;

/// The content of `journal.head`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadRecord {
    /// The agent whose journal it is.
    pub agent: Id,
    /// The last line that is known to be on the disk.
    #[serde(flatten)]
    pub head: ChainHead,
    /// Number of the oldest line that is kept.
    pub first: u64,
    /// Number of the last line that mcpd has; 0 where it has none.
    pub handed_over: u64,
    /// Number of the last line that is about another mcpd, which this one never gets; 0 where there is none.
    #[serde(default)]
    pub foreign: u64,
    /// The mcpd that has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// It cannot be opened or read.
    #[error("{0}")]
    Path(#[from] PathError),
    /// It cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It has another content.
    #[error("it is not the head of a journal")]
    Unreadable,
}

impl HeadRecord {
    /// Reads the file; `None` where it is not there, or has nothing yet.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read(path: &Path) -> Result<Option<Self>, HeadError> {
        let max = u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX);
        let Some(text) = file::read_own(path, max)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        serde_json::from_slice(&text).map(Some).map_err(|_| HeadError::Unreadable)
    }

    /// Overwrites the file in one write, which the kernel does whole or, at the end of the machine's power, not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), HeadError> {
        let mut text = serde_json::to_vec(self).map_err(io::Error::from)?;
        if text.len() >= HEAD_BYTES {
            return Err(HeadError::Unreadable);
        }
        text.resize(HEAD_BYTES - 1, b' ');
        text.push(b'\n');
        let file = file::open_own(path, OpenMode::ReadWrite)?;
        Ok(file.write_all_at(&text, 0)?)
    }
}
