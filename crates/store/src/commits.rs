//! What a process knows of the commits to its store without reading it. INVARIANT 5 on SQLite: while no commit of this process runs, and
//! none has ended or was noted by another program since a read began, that read is the store's present state.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use mcpctl_api::Revision;
use tokio::sync::watch;

use crate::{
    error::StoreError,
    ownership::{self, Ownership},
};

/// The commits to a store, as far as this process knows them.
pub(crate) struct Commits {
    access: Access,
    /// Those of this process that may take effect at any moment.
    running: AtomicUsize,
    /// Those of this process that took effect, or never will.
    ended: AtomicU64,
    /// The revision of the last commit by this process.
    last: watch::Sender<Revision>,
}

/// Who else commits.
pub(crate) enum Access {
    /// Other replicas: what they commit is known by reading alone.
    Shared,
    /// This process serves the SQLite database.
    Owner(Ownership),
    /// Another process may serve the SQLite database of this path.
    Guest(PathBuf),
}

/// Up to where commits were known at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    ended: u64,
    others: u64,
}

impl Commits {
    pub(crate) fn new(access: Access) -> Self {
        Self {
            access,
            running: AtomicUsize::new(0),
            ended: AtomicU64::new(0),
            last: watch::Sender::default(),
        }
    }

    /// The revision of each commit by this process, soon after it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.last.subscribe()
    }

    /// Begins a commit. It ends when this is dropped, which has to be after its effect.
    pub(crate) fn begin(self: &Arc<Self>) -> RunningCommit {
        self.running.fetch_add(1, Ordering::SeqCst);
        RunningCommit(Arc::clone(self))
    }

    /// Take this before a read. `None` where only a read shows what others commit.
    pub(crate) fn known(&self) -> Option<Known> {
        let Access::Owner(ownership) = &self.access else { return None };
        Some(Known { ended: self.ended.load(Ordering::SeqCst), others: ownership.others()? })
    }

    /// Whether a read that began after `known` was taken is the store's present state.
    pub(crate) fn is_present(&self, known: Known) -> bool {
        // First: a commit that ends after this look began after the call, or shows in the other number.
        self.running.load(Ordering::SeqCst) == 0 && self.known() == Some(known)
    }
}

/// A commit that may take effect at any moment.
pub(crate) struct RunningCommit(Arc<Commits>);

impl RunningCommit {
    /// Notes that it took effect, with the revision that it made, if it made one.
    pub(crate) fn took_effect(&self, revision: Option<Revision>) -> Result<(), StoreError> {
        let guest_of = match &self.0.access {
            Access::Guest(database) => Some(database.as_path()),
            // Without its lock's file another process may have become the owner.
            Access::Owner(ownership) if ownership.others().is_none() => Some(ownership.database()),
            Access::Owner(_) | Access::Shared => None,
        };
        if let Some(database) = guest_of {
            ownership::note_commit(database).map_err(sqlx::Error::Io)?;
        }
        if let Some(revision) = revision {
            self.0.last.send_replace(revision);
        }
        Ok(())
    }
}

impl Drop for RunningCommit {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_whose_lock_is_gone_notes_its_commits_for_the_next_owner() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("mcpd.sqlite");
        let owner = || Arc::new(Commits::new(Access::Owner(Ownership::take(&database).unwrap())));
        let first = owner();
        let known = first.known().unwrap();
        std::fs::remove_file(dir.path().join("mcpd.sqlite-owner")).unwrap();
        assert!(!first.is_present(known));
        let second = owner();
        let known = second.known().unwrap();
        assert!(second.is_present(known));
        first.begin().took_effect(None).unwrap();
        assert!(!second.is_present(known));
    }
}
