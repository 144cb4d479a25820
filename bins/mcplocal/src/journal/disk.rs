//! Has lines written to the disk. One write serves all lines that were appended before it began (group commit).

use super::{Journal, JournalEntry, JournalError};

impl Journal {
    /// Appends an entry, and returns once it is on the disk.
    ///
    /// # Errors
    /// As [`Journal::record`], and when the disk does not take it.
    pub async fn commit(&self, entry: &JournalEntry) -> Result<(), JournalError> {
        let line = self.append(entry)?;
        self.sync(line).await
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

    /// Waits until the line of this number is on the disk.
    async fn sync(&self, line: u64) -> Result<(), JournalError> {
        let mut synced = self.synced.lock().await;
        let (sync, head) = {
            let mut state = self.state();
            // First: a later line may be on the disk though this one was refused. Line 0 is that of an empty journal.
            if (1..=state.failed).contains(&line) {
                return Err(JournalError::NotSynced("the disk refused it".to_owned()));
            }
            if *synced >= line {
                return Ok(());
            }
            let open = self.opened(&mut state.open)?;
            (open.file.pending_sync(), open.chain.head)
        };
        let written = tokio::task::spawn_blocking(move || {
            let result = sync.run();
            (sync, result)
        })
        .await;
        let mut state = self.state();
        let reason = match written {
            Ok((sync, result)) => {
                let open = self.opened(&mut state.open)?;
                open.file.synced(&sync, result.is_ok());
                match result {
                    Ok(()) => {
                        open.chain.keep(&self.paths, head)?;
                        *synced = head.seq;
                        state.write_error = None;
                        return Ok(());
                    }
                    Err(error) => error.to_string(),
                }
            }
            Err(_) => "the task was cancelled".to_owned(),
        };
        // Nothing runs for these lines, also where a later write to the disk has them.
        state.failed = head.seq;
        state.write_error = Some(JournalError::NotSynced(reason.clone()).to_string());
        Err(JournalError::NotSynced(reason))
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_api::Id;

    use crate::{
        config::JournalLimits,
        journal::{
            FailoverOutcome,
            tests::{entry, open, problems},
        },
    };

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
}
