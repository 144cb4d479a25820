//! The record of local answers, one JSON object per line, each with the hash of the one before. A line is on the disk before
//! the prompt goes to a local model, so that the record survives whatever happens next (INVARIANT 14). Where no line can be
//! written, nothing runs locally: a journal that was deleted, replaced, shortened or made read-only denies until the agent
//! starts again.
//!
//! Lines that are written while the disk is busy with others share the next write to it (group commit, `disk`). What mcpd has of
//! them is in `progress`; `hand_over` sends it the others.

mod caller_name;
mod chain;
mod disk;
mod error;
mod file;
pub mod hand_over;
mod progress;
mod refusals;

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use jiff::Timestamp;
use mcpctl_api::Id;
use mcpctl_journal::{JournalPaths, Line};
use tokio::sync::{Mutex as AsyncMutex, watch};

pub use caller_name::caller_name;
use chain::Chain;
pub use error::JournalError;
use file::JournalFile;
pub use mcpctl_api::agent::FailoverOutcome;
pub use mcpctl_journal::{CallerKind, JournalEntry, MAX_REASON, Served, TokenCount};
use refusals::Refusals;

use crate::config::JournalLimits;

/// Appends lines to a file of the state directory.
pub struct Journal {
    paths: JournalPaths,
    agent: Id,
    limits: JournalLimits,
    state: Mutex<JournalState>,
    /// Number of the last line that is on the disk. Held while the disk writes, so that others wait for the next time.
    synced: AsyncMutex<u64>,
    /// Number of the last line that was written.
    written: watch::Sender<u64>,
}

struct JournalState {
    /// `None` until it could be opened: nothing was written before, so nothing can be missing.
    open: Option<OpenJournal>,
    refusals: Refusals,
    /// Lines up to this one may be lost, because the disk refused them.
    failed: u64,
    /// Why the last write failed; none once the disk has a later one.
    write_error: Option<String>,
    /// Why lines wait at the agent.
    waits_for: Option<String>,
}

/// The file, and the chain that it continues.
struct OpenJournal {
    file: JournalFile,
    chain: Chain,
}

impl Journal {
    /// Opens the journal of a state directory, and removes a last line that was not written in full. If it cannot be opened,
    /// requests are forwarded to mcpd all the same, and the next entry tries again.
    pub fn open(state_dir: &Path, agent: &Id, limits: JournalLimits) -> Self {
        let refusals = Refusals::since(Instant::now());
        let state = JournalState { open: None, refusals, failed: 0, write_error: None, waits_for: None };
        let journal = Self {
            paths: JournalPaths::of(state_dir),
            agent: agent.clone(),
            limits,
            state: Mutex::new(state),
            synced: AsyncMutex::new(0),
            written: watch::Sender::new(0),
        };
        if let Err(error) = journal.opened(&mut journal.state().open) {
            let journal = journal.paths.current.display();
            tracing::error!(%error, %journal, "the journal cannot be opened: no local answers until it can");
        }
        journal
    }

    fn state(&self) -> MutexGuard<'_, JournalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why no entry can be recorded now: as far as that shows without writing, or as the last write showed it.
    pub fn problem(&self) -> Option<JournalError> {
        let mut state = self.state();
        let unusable = self.opened(&mut state.open).and_then(|open| open.file.check()).err();
        unusable.or_else(|| state.write_error.clone().map(JournalError::LastWrite))
    }

    fn opened<'a>(&self, open: &'a mut Option<OpenJournal>) -> Result<&'a mut OpenJournal, JournalError> {
        match open {
            Some(open) => Ok(open),
            none => {
                // The head's file is one of those that share the bound.
                let head = u64::try_from(mcpctl_journal::HEAD_BYTES).unwrap_or_default();
                let max = self.limits.max_size.0.saturating_sub(head) / 2;
                let file = JournalFile::open(&self.paths.current, max)?;
                let chain = Chain::load(&self.paths, &self.agent)?;
                self.written.send_replace(chain.head.seq);
                Ok(none.insert(OpenJournal { file, chain }))
            }
        }
    }

    /// Where its files are.
    pub const fn paths(&self) -> &JournalPaths {
        &self.paths
    }

    /// Changes whenever a line is written.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }

    /// Appends an entry. When this returns, it survives the end of the agent, and soon after a loss of power. Refusals beyond
    /// the limit are counted instead, and the count is written once their minute is over.
    ///
    /// # Errors
    /// When it cannot be written; then no local provider may be used.
    pub fn record(&self, entry: &JournalEntry) -> Result<(), JournalError> {
        self.append(entry).map(drop)
    }

    /// Appends an entry and returns the number of the last line.
    fn append(&self, entry: &JournalEntry) -> Result<u64, JournalError> {
        let mut state = self.state();
        let appended = self.append_to(&mut state, entry);
        if let Err(error) = &appended {
            state.write_error = Some(error.to_string());
        }
        appended
    }

    fn append_to(&self, state: &mut JournalState, entry: &JournalEntry) -> Result<u64, JournalError> {
        let JournalState { open, refusals, .. } = state;
        let open = self.opened(open)?;
        if let Some(omitted) = refusals.omitted_of_last_interval() {
            self.write(open, &JournalEntry::Omitted { at: Timestamp::now(), refusals: omitted })?;
            refusals.begin_interval();
        }
        if entry.is_refusal() && !refusals.admit(self.limits.refusals_per_minute) {
            return Ok(open.chain.head.seq);
        }
        self.write(open, entry)
    }

    fn write(&self, open: &mut OpenJournal, entry: &JournalEntry) -> Result<u64, JournalError> {
        let OpenJournal { file, chain } = open;
        file.check()?;
        let (mut line, mut head) = Line::after(chain.head, entry).map_err(io::Error::from)?;
        if !file.fits(&line) {
            let kept = chain.clone();
            let dropped = chain.rotate();
            // The head is written first: one that knows of fewer lines than there are does no harm.
            let rotated = file.sync().map_err(JournalError::from).and_then(|()| {
                chain.keep(&self.paths, chain.head)?;
                Ok(file.rotate()?)
            });
            if let Err(error) = rotated {
                *chain = kept;
                return Err(error);
            }
            // What mcpd does not have is not dropped without a line.
            if let Some((from, to)) = dropped.and_then(|dropped| chain.lost(dropped)) {
                let reason = "they were dropped for new ones before they could be handed over".to_owned();
                let lost = JournalEntry::Lost { at: Timestamp::now(), from, to, reason };
                let (line, head) = Line::after(chain.head, &lost).map_err(io::Error::from)?;
                file.append(line)?;
                chain.advance(head);
            }
            (line, head) = Line::after(chain.head, entry).map_err(io::Error::from)?;
        }
        file.append(line)?;
        chain.advance(head);
        self.written.send_replace(head.seq);
        Ok(head.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(number: usize) -> JournalEntry {
        entry(number, FailoverOutcome::Refused)
    }

    pub(super) fn entry(number: usize, outcome: FailoverOutcome) -> JournalEntry {
        let served = Served {
            request: number.to_string(),
            who: "bearer:1".to_owned(),
            caller: CallerKind::Bearer,
            llm: Some("claude".to_owned()),
            llm_id: None,
            provider: "desk".to_owned(),
        };
        let (class, access) = (None, vec!["allowed".to_owned()]);
        JournalEntry::Failover {
            at: Timestamp::now(),
            served,
            class,
            access,
            outcome,
            reason: None,
            proof: None,
        }
    }

    pub(super) fn open(dir: &Path, agent: &Id, limits: JournalLimits) -> Journal {
        Journal::open(dir, agent, limits)
    }

    pub(super) fn problems(dir: &Path, agent: &Id) -> Vec<String> {
        let report = mcpctl_journal::verify(dir, Some(agent), &[]).unwrap();
        report.problems.into_iter().map(|problem| format!("{}: {}", problem.place, problem.message)).collect()
    }

    fn lines(dir: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(dir.join("journal.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn refusals_beyond_the_limit_are_summed() {
        let dir = tempfile::tempdir().unwrap();
        let limits = JournalLimits { refusals_per_minute: 3, ..JournalLimits::default() };
        let journal = open(dir.path(), &Id::mint(), limits);
        (0..10).for_each(|number| journal.record(&refusal(number)).unwrap());
        assert_eq!(lines(dir.path()).len(), 3);
        journal.state().refusals.end_interval();
        journal.record(&refusal(11)).unwrap();
        let lines = lines(dir.path());
        assert_eq!(
            (lines.len(), &lines[3]["event"], &lines[3]["refusals"]),
            (5, &"omitted".into(), &7.into())
        );
    }

    #[tokio::test]
    async fn chain_goes_on_over_restarts_and_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Id::mint();
        let mut limits = JournalLimits::default();
        limits.max_size.0 = 64 << 10;
        for _ in 0..3 {
            let journal = open(dir.path(), &agent, limits);
            for number in 0..150 {
                journal.commit(&entry(number, FailoverOutcome::Served)).await.unwrap();
            }
            assert_eq!(problems(dir.path(), &agent), [""; 0]);
        }
        let lost: Vec<_> = lines(dir.path()).into_iter().filter(|line| line["event"] == "lost").collect();
        assert!(!lost.is_empty(), "dropped lines that nobody has are recorded");
    }

    #[tokio::test]
    async fn what_was_removed_or_changed_is_named() {
        let removed = |from: usize, to: usize| {
            move |text: &str| {
                let lines = text.lines().enumerate().filter(|(at, _)| !(from..to).contains(at));
                lines.map(|(_, line)| format!("{line}\n")).collect::<String>()
            }
        };
        type Edit<'a> = &'a dyn Fn(&str) -> String;
        let edits: [(&str, Edit<'_>, &str); 6] = [
            ("whole", &|text: &str| text.to_owned(), ""),
            ("removed", &removed(2, 3), "journal.jsonl:3: the line with the number 3 is missing before it"),
            (
                "first",
                &removed(0, 1),
                "journal.jsonl: the lines with the numbers 1 to 1 are missing at its beginning",
            ),
            (
                "tail",
                &removed(4, 6),
                "journal.jsonl: the lines with the numbers 5 to 6 are missing at its end",
            ),
            (
                "changed",
                &|text: &str| text.replacen("\"1\"", "\"9\"", 1),
                "journal.jsonl:2: it was changed or replaced: the next line has another hash for it",
            ),
            (
                "last",
                &|text: &str| text.replacen("\"5\"", "\"9\"", 1),
                "journal.jsonl:6: it was changed: line 6 has another hash where the end of the journal is kept",
            ),
        ];
        for (what, edit, expected) in edits {
            let dir = tempfile::tempdir().unwrap();
            let agent = Id::mint();
            let journal = open(dir.path(), &agent, JournalLimits::default());
            for number in 0..6 {
                journal.commit(&entry(number, FailoverOutcome::Served)).await.unwrap();
            }
            drop(journal);
            let path = dir.path().join("journal.jsonl");
            let text = edit(&std::fs::read_to_string(&path).unwrap());
            std::fs::write(&path, text).unwrap();
            let found = problems(dir.path(), &agent);
            assert_eq!(found.first().map_or("", String::as_str), expected, "{what}: {found:?}");
            // A new line does not hide it.
            let journal = open(dir.path(), &agent, JournalLimits::default());
            journal.commit(&entry(7, FailoverOutcome::Served)).await.unwrap();
            assert_eq!(
                problems(dir.path(), &agent).is_empty(),
                expected.is_empty(),
                "{what}, one line later"
            );
        }
    }
}
