//! The record of local answers, one JSON object per line. A line is written before the prompt goes to a local
//! model, so that the record survives whatever happens next (INVARIANT 14). Where no line can be written, nothing runs
//! locally: a journal that was deleted, replaced, shortened or made read-only denies until the agent starts again.

mod entry;
mod file;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

pub use entry::{JournalEntry, MAX_REASON, caller_name};
use file::JournalFile;
pub use mcpctl_api::agent::FailoverOutcome;

use crate::config::JournalLimits;

/// The interval over which refusals are counted.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);

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
    /// The file system returned an error.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Appends lines to a file of the state directory.
pub struct Journal {
    path: PathBuf,
    limits: JournalLimits,
    state: Mutex<JournalState>,
}

struct JournalState {
    /// `None` until it could be opened: nothing was written before, so nothing can be missing.
    file: Option<JournalFile>,
    refusals: Refusals,
}

/// Counts refusals, which any caller with a made-up bearer can cause: unbounded, they would push the lines of local answers
/// out of the journal.
struct Refusals {
    since: Instant,
    written: u32,
    omitted: u64,
}

impl Journal {
    /// Opens the journal of a state directory, and removes a last line that was not written in full. If it cannot be opened,
    /// requests are forwarded to mcpd all the same, and the next entry tries again.
    pub fn open(state_dir: &Path, limits: JournalLimits) -> Self {
        let path = state_dir.join("journal.jsonl");
        let file = JournalFile::open(&path, limits.max_size.0 / 2)
            .inspect_err(|error| {
                let journal = path.display();
                tracing::error!(%error, %journal, "the journal cannot be opened: no local answers until it can");
            })
            .ok();
        let refusals = Refusals { since: Instant::now(), written: 0, omitted: 0 };
        Self { path, limits, state: Mutex::new(JournalState { file, refusals }) }
    }

    /// Why no entry can be recorded now, as far as that shows without writing.
    pub fn problem(&self) -> Option<JournalError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.opened(&mut state.file).and_then(JournalFile::check).err()
    }

    fn opened<'a>(&self, file: &'a mut Option<JournalFile>) -> Result<&'a mut JournalFile, JournalError> {
        match file {
            Some(file) => Ok(file),
            none => Ok(none.insert(JournalFile::open(&self.path, self.limits.max_size.0 / 2)?)),
        }
    }

    /// Appends an entry. When this returns, it survives the end of the agent. Refusals beyond the limit are counted
    /// instead, and the count is written once their minute is over.
    ///
    /// # Errors
    /// When it cannot be written; then no local provider may be used.
    pub fn record(&self, entry: &JournalEntry) -> Result<(), JournalError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let JournalState { file, refusals } = &mut *state;
        let file = self.opened(file)?;
        if refusals.since.elapsed() >= REFUSAL_INTERVAL {
            if refusals.omitted > 0 {
                file.append(&JournalEntry::Omitted { at: Timestamp::now(), refusals: refusals.omitted })?;
            }
            *refusals = Refusals { since: Instant::now(), written: 0, omitted: 0 };
        }
        if entry.is_refusal() {
            if refusals.written >= self.limits.refusals_per_minute {
                refusals.omitted += 1;
                return Ok(());
            }
            refusals.written += 1;
        }
        file.append(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(number: usize) -> JournalEntry {
        JournalEntry::Failover {
            at: Timestamp::now(),
            request: number.to_string(),
            who: "bearer:1".to_owned(),
            llm: "claude".to_owned(),
            provider: "desk".to_owned(),
            class: None,
            access: vec!["forbidden"],
            outcome: FailoverOutcome::Refused,
            reason: None,
        }
    }

    fn lines(dir: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(dir.join("journal.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn refusals_beyond_the_limit_are_summed() {
        let dir = tempfile::tempdir().unwrap();
        let limits = JournalLimits { refusals_per_minute: 3, ..JournalLimits::default() };
        let journal = Journal::open(dir.path(), limits);
        (0..10).for_each(|number| journal.record(&refusal(number)).unwrap());
        assert_eq!(lines(dir.path()).len(), 3);
        journal.state.lock().unwrap().refusals.since = Instant::now() - REFUSAL_INTERVAL;
        journal.record(&refusal(11)).unwrap();
        let lines = lines(dir.path());
        assert_eq!(
            (lines.len(), &lines[3]["event"], &lines[3]["refusals"]),
            (5, &"omitted".into(), &7.into())
        );
    }
}
