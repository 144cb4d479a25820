//! What a person typed in conversations, in a private file: a JSON string a line, because a question may have several lines. Answers
//! are not in it.

use std::{
    collections::VecDeque,
    io::Write as _,
    path::{Path, PathBuf},
};

use mcpctl_client::config;
use mcpctl_owner::{
    dir,
    file::{self, OpenMode},
};

use crate::failure::Failure;

const FILE: &str = "chat-history.jsonl";
/// Entries that are kept.
const MAX_ENTRIES: usize = 1000;
/// Size of the file from which it is written anew with the newest half of the entries, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Longest entry that is kept, in bytes: a file that was pasted is none to offer again.
const MAX_ENTRY_BYTES: usize = 16 << 10;

/// The history, and where it is kept.
pub struct History {
    /// `None` where it is not kept.
    path: Option<PathBuf>,
    entries: VecDeque<String>,
}

impl History {
    /// The history of this user. A file that cannot be used is reported, and the conversation goes on without one.
    pub fn open() -> Self {
        match Self::read() {
            Ok(history) => history,
            Err(failure) => {
                note!("note: what you type is not kept: {}", failure.in_one_line());
                Self::none()
            }
        }
    }

    /// None.
    pub fn none() -> Self {
        Self { path: None, entries: VecDeque::new() }
    }

    fn read() -> Result<Self, Failure> {
        let state = config::agent_state_dir()?;
        let directory = dir::ensure_private(state.parent().unwrap_or(&state))?;
        Self::read_from(&directory.join(FILE))
    }

    fn read_from(path: &Path) -> Result<Self, Failure> {
        // An entry that was being written when the limit was reached may be beyond it.
        let most = u64::try_from(MAX_BYTES + 8 * MAX_ENTRY_BYTES).unwrap_or(u64::MAX);
        let bytes = file::read_own(path, most)?.unwrap_or_default();
        let lines = bytes.split(|byte| *byte == b'\n');
        // A line that a killed program left half is skipped.
        let mut entries: VecDeque<String> =
            lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        if entries.len() > MAX_ENTRIES || bytes.len() > MAX_BYTES {
            entries.drain(..entries.len().saturating_sub(MAX_ENTRIES / 2).max(entries.len() / 2));
            let lines: String = entries.iter().filter_map(|entry| line(entry)).collect();
            file::replace(path, lines.as_bytes())?;
        }
        Ok(Self { path: Some(path.to_owned()), entries })
    }

    /// The entries, the oldest one first.
    pub fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(String::as_str)
    }

    /// Entries that an editor offers at most.
    pub const fn len(&self) -> usize {
        MAX_ENTRIES
    }

    /// Keeps an entry. Errors are ignored: the conversation goes on.
    pub fn add(&self, entry: &str) {
        let Some(path) = &self.path else { return };
        if let (true, Some(line)) = (entry.len() <= MAX_ENTRY_BYTES, line(entry))
            && let Ok(mut file) = file::open_own(path, OpenMode::Append)
        {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

fn line(entry: &str) -> Option<String> {
    serde_json::to_string(entry).ok().map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn history_is_private_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let history = History::read_from(&path).unwrap();
        history.add("one\ntwo");
        history.add(&"x".repeat(MAX_ENTRY_BYTES + 1));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(History::read_from(&path).unwrap().entries, ["one\ntwo"]);
        for number in 0..MAX_ENTRIES {
            history.add(&number.to_string());
        }
        let read = History::read_from(&path).unwrap();
        assert_eq!((read.entries.len(), read.entries.back().unwrap().as_str()), (500, "999"));
        assert_eq!(History::read_from(&path).unwrap().entries.len(), 500);
    }
}
