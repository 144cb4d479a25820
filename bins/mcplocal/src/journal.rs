//! What the agent did in the centre's place, one JSON object per line. Written before the first local byte goes out, so
//! that it survives whatever happens next (INVARIANT 14).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

/// Size at which a new file is begun; the one before is kept as `journal.jsonl.1`.
const ROTATE_AT: u64 = 16 << 20;

/// A line of the journal.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Entry {
    /// A primary failed, and a local provider was to take over.
    #[serde(rename_all = "camelCase")]
    Failover {
        /// When.
        at: Timestamp,
        /// The request.
        request: String,
        /// The central Llm.
        llm: String,
        /// The local provider.
        provider: String,
        /// Why the primary did not answer.
        class: Option<String>,
        /// What the centre said, in order.
        access: Vec<&'static str>,
        /// `served`, `refused` or `failed`.
        outcome: &'static str,
        /// Why it failed, where it did.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A local answer ended.
    #[serde(rename_all = "camelCase")]
    Ended {
        /// When.
        at: Timestamp,
        /// The request.
        request: String,
        /// `ok`, or the class of failure.
        outcome: &'static str,
        /// The model that answered, as it calls itself.
        model: Option<String>,
        /// Tokens read.
        input_tokens: u64,
        /// Tokens written.
        output_tokens: u64,
    },
}

/// Appends lines to a file.
pub struct Journal {
    path: PathBuf,
    file: Mutex<File>,
}

impl Journal {
    /// Opens the journal of a state directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join("journal.jsonl");
        let file = Mutex::new(append(&path)?);
        Ok(Self { path, file })
    }

    /// Appends an entry; when this returns, the end of the agent does not undo it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if file.metadata()?.len() > ROTATE_AT {
            std::fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            *file = append(&self.path)?;
        }
        // One write of a whole line: lines do not mix, and none is left by halves.
        file.write_all(&line)
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
