//! The record of local answers, one JSON object per line, each with the hash of the one before. A line is on the disk before
//! the prompt goes to a local model, so that the record survives whatever happens next (INVARIANT 14). Where no line can be
//! written, nothing runs locally: a journal that was deleted, replaced, shortened or made read-only denies until the agent
//! starts again.
//!
//! Lines that are written while the disk is busy with others share the next write to it (group commit).

mod chain;
mod file;

use std::{
    io,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use mcpctl_api::{Id, visible::short};
use mcpctl_failover::Bearer;
use mcpctl_journal::{HeadError, JournalPaths, Line, short_name};
use mcpctl_secret::token;
use tokio::sync::{Mutex as AsyncMutex, watch};
use url::Url;

use chain::Chain;
use file::JournalFile;
pub use mcpctl_api::agent::FailoverOutcome;
pub use mcpctl_journal::{CallerKind, JournalEntry, MAX_REASON, Served};

use crate::config::JournalLimits;

/// The interval over which refusals are counted.
const REFUSAL_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum of bytes of the address of mcpd in the journal's head.
const MAX_SERVER_NAME: usize = 256;
/// Characters of a bearer's digest: enough to distinguish callers, useless as a credential.
const DIGEST_LENGTH: usize = 12;

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
    /// The file of its head cannot be written.
    #[error("its head `journal.head`: {0}")]
    Head(#[from] HeadError),
    /// The file system returned an error.
    #[error("{0}")]
    Io(#[from] io::Error),
}

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
}

/// The file, and the chain that it continues.
struct OpenJournal {
    file: JournalFile,
    chain: Chain,
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
    pub fn open(state_dir: &Path, agent: &Id, limits: JournalLimits) -> Self {
        let refusals = Refusals { since: Instant::now(), written: 0, omitted: 0 };
        let journal = Self {
            paths: JournalPaths::of(state_dir),
            agent: agent.clone(),
            limits,
            state: Mutex::new(JournalState { open: None, refusals, failed: 0 }),
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

    /// Why no entry can be recorded now, as far as that shows without writing.
    pub fn problem(&self) -> Option<JournalError> {
        let mut state = self.state();
        self.opened(&mut state.open).and_then(|open| open.file.check()).err()
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

    /// Appends an entry. When this returns, it survives the end of the agent, and soon after a loss of power. Refusals beyond
    /// the limit are counted instead, and the count is written once their minute is over.
    ///
    /// # Errors
    /// When it cannot be written; then no local provider may be used.
    pub fn record(&self, entry: &JournalEntry) -> Result<(), JournalError> {
        self.append(entry).map(drop)
    }

    /// Appends an entry, and returns once it is on the disk.
    ///
    /// # Errors
    /// As [`Journal::record`], and when the disk does not take it.
    pub async fn commit(&self, entry: &JournalEntry) -> Result<(), JournalError> {
        let line = self.append(entry)?;
        self.sync(line).await
    }

    /// Appends an entry and returns the number of the last line.
    fn append(&self, entry: &JournalEntry) -> Result<u64, JournalError> {
        let mut state = self.state();
        let JournalState { open, refusals, .. } = &mut *state;
        let open = self.opened(open)?;
        if refusals.since.elapsed() >= REFUSAL_INTERVAL {
            if refusals.omitted > 0 {
                self.write(
                    open,
                    &JournalEntry::Omitted { at: Timestamp::now(), refusals: refusals.omitted },
                )?;
            }
            *refusals = Refusals { since: Instant::now(), written: 0, omitted: 0 };
        }
        if entry.is_refusal() {
            if refusals.written >= self.limits.refusals_per_minute {
                refusals.omitted += 1;
                return Ok(open.chain.head.seq);
            }
            refusals.written += 1;
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

    /// Waits until the line of this number is on the disk. One write to the disk serves all lines that were appended before it
    /// began.
    async fn sync(&self, line: u64) -> Result<(), JournalError> {
        let mut synced = self.synced.lock().await;
        let (file, head) = {
            let mut state = self.state();
            // First: a later line may be on the disk though this one was refused. Line 0 is that of an empty journal.
            if (1..=state.failed).contains(&line) {
                return Err(JournalError::NotSynced("the disk refused it".to_owned()));
            }
            if *synced >= line {
                return Ok(());
            }
            let open = self.opened(&mut state.open)?;
            (open.file.handle(), open.chain.head)
        };
        let written = tokio::task::spawn_blocking(move || file.sync_data()).await;
        let mut state = self.state();
        match written {
            Ok(Ok(())) => {
                let open = self.opened(&mut state.open)?;
                open.chain.keep(&self.paths, head)?;
                *synced = head.seq;
                Ok(())
            }
            failed => {
                // The kernel reports a failure once, and takes the lines for written after that.
                state.failed = head.seq;
                let reason = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "the task was cancelled".to_owned(),
                };
                Err(JournalError::NotSynced(reason))
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

    /// Waits until every line is on the disk, and returns the number of the last one.
    ///
    /// # Errors
    /// As [`Journal::commit`].
    pub async fn sync_all(&self) -> Result<u64, JournalError> {
        let last = self.opened(&mut self.state().open)?.chain.head.seq;
        self.sync(last).await?;
        Ok(last)
    }

    /// Number of the last line that mcpd has.
    ///
    /// # Errors
    /// When the journal cannot be opened.
    pub fn handed_over(&self) -> Result<u64, JournalError> {
        Ok(self.opened(&mut self.state().open)?.chain.handed_over)
    }

    /// Keeps the number of the last line that mcpd has.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark_handed_over(&self, line: u64) -> Result<(), JournalError> {
        let mut state = self.state();
        let OpenJournal { chain, .. } = self.opened(&mut state.open)?;
        chain.handed_over = line;
        Ok(chain.keep(&self.paths, chain.durable)?)
    }

    /// From now on lines are about this mcpd. Lines about another one, which did not get them, are recorded as lost: they are
    /// no matter of this one's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn assign(&self, server: &Url) -> Result<(), JournalError> {
        let server = server_name(server);
        let mut state = self.state();
        let open = self.opened(&mut state.open)?;
        if open.chain.server.as_ref() == Some(&server) {
            return Ok(());
        }
        let before = open.chain.clone();
        if before.server.is_some() {
            let (from, to) = (before.handed_over.saturating_add(1), before.head.seq);
            open.chain.handed_over = to;
            if from <= to {
                let reason = "they are about another mcpd, which did not get them".to_owned();
                self.write(open, &JournalEntry::Lost { at: Timestamp::now(), from, to, reason })?;
            }
        }
        open.chain.server = Some(server);
        Ok(open.chain.keep(&self.paths, open.chain.durable)?)
    }

    /// Has lines that no request waits for written to the disk, until the agent ends.
    pub async fn sync_the_rest(&self) {
        let mut written = self.written.subscribe();
        loop {
            let line = *written.borrow_and_update();
            if let Err(error) = self.sync(line).await {
                tracing::warn!(%error, "lines of the journal are not on the disk");
            }
            if written.changed().await.is_err() {
                return;
            }
        }
    }
}

/// An mcpd as the head names it: two with the same beginning of a very long address are one.
fn server_name(server: &Url) -> String {
    short(server.as_str().trim_end_matches('/'), MAX_SERVER_NAME)
}

/// The name of a caller: the user for whom the local key acts, or else the beginning of the bearer's SHA-256.
///
/// INVARIANT 10: never the bearer itself.
pub fn caller_name(user: Option<&str>, bearer: &Bearer) -> String {
    match user {
        Some(user) => short_name(user),
        None => {
            let digest = token::hash(bearer.expose()).to_string();
            format!("bearer:{}", digest.get(..DIGEST_LENGTH).unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(number: usize) -> JournalEntry {
        entry(number, FailoverOutcome::Refused)
    }

    fn entry(number: usize, outcome: FailoverOutcome) -> JournalEntry {
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

    fn open(dir: &Path, agent: &Id, limits: JournalLimits) -> Journal {
        Journal::open(dir, agent, limits)
    }

    fn problems(dir: &Path, agent: &Id) -> Vec<String> {
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
        journal.state.lock().unwrap().refusals.since = Instant::now() - REFUSAL_INTERVAL;
        journal.record(&refusal(11)).unwrap();
        let lines = lines(dir.path());
        assert_eq!(
            (lines.len(), &lines[3]["event"], &lines[3]["refusals"]),
            (5, &"omitted".into(), &7.into())
        );
    }

    #[test]
    fn inv_10_a_caller_is_named_by_user_or_digest() {
        let (one, other) = (Bearer::new("mcpd_one"), Bearer::new("mcpd_other"));
        assert_eq!(caller_name(Some("alice"), &one), "alice");
        assert_ne!(caller_name(None, &one), caller_name(None, &other));
        assert_eq!(caller_name(None, &one), caller_name(None, &one));
        assert!(!caller_name(None, &one).contains("mcpd_"));
    }

    #[tokio::test]
    async fn requests_at_the_same_time_share_a_write_to_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let agent = Id::mint();
        let journal = open(dir.path(), &agent, JournalLimits::default());
        let entries: Vec<_> = (0..64).map(|number| entry(number, FailoverOutcome::Served)).collect();
        // All are appended before the first of them gets the disk.
        let held = journal.synced.lock().await;
        let mut commits: Vec<_> = entries.iter().map(|entry| Box::pin(journal.commit(entry))).collect();
        for commit in &mut commits {
            assert!(futures::poll!(commit).is_pending());
        }
        drop(held);
        commits.remove(0).await.unwrap();
        drop(commits);
        assert_eq!(*journal.synced.lock().await, 64, "the first one's write served all");
        assert_eq!(problems(dir.path(), &agent), [""; 0]);
    }

    #[tokio::test]
    async fn empty_journal_has_nothing_that_the_disk_refused() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path(), &Id::mint(), JournalLimits::default());
        assert_eq!(journal.sync_all().await.unwrap(), 0);
        let line = journal.append(&entry(1, FailoverOutcome::Served)).unwrap();
        journal.state().failed = line;
        journal.sync(line).await.unwrap_err();
        journal.commit(&entry(2, FailoverOutcome::Served)).await.unwrap();
        // A later line that is on the disk does not make up for an earlier one that may be lost.
        journal.sync(line).await.unwrap_err();
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
