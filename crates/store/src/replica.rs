//! The snapshot that decisions are made in, kept fresh, and the one follower of the store in a process.
//!
//! INVARIANT 5: [`Replica::fresh`] returns a snapshot at least as new as the store was when it was called. In the process that
//! owns its SQLite database that takes no read while nothing was committed ([`crate::commits`]). Elsewhere, and after a commit, it takes
//! one small read of the current revision that *begins* after the call; calls that wait at the same time share one, as in
//! etcd's ReadIndex. If the read fails, all calls that share it fail: none gets an old snapshot.
//!
//! What has to learn of changes without a request hangs from [`Replica::subscribe`]: the follower reads when a commit is
//! announced, and subscribers cost the store nothing.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use mcpctl_access::{ListedIssuers, Snapshot};
use mcpctl_api::Revision;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    commits::Known,
    database::Store,
    error::StoreError,
    notices::{self, Notice},
    recent::RecentChanges,
    resources::{Feed, Head},
};

/// Calls that wait for the next read; further ones wait for a place in the queue.
const MAX_QUEUED: usize = 1024;
/// Changes that one read fetches while catching up.
const MAX_BATCH: usize = 1000;
/// How long a call waits for the database; then it fails, and the request is denied.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Follows the changes of a store.
pub struct Replica {
    store: Store,
    snapshot: watch::Sender<Arc<Snapshot>>,
    recent: Mutex<RecentChanges>,
    confirmed_at: Mutex<Instant>,
    /// What was known of commits before the read that the latest snapshot is of.
    known: Mutex<Option<Known>>,
    signing_key: AtomicI64,
    queue: mpsc::Sender<Waiter>,
    reads: AtomicU64,
    issuers: Arc<ListedIssuers>,
}

type Waiter = oneshot::Sender<Result<Arc<Snapshot>, Arc<StoreError>>>;

impl Replica {
    /// Loads all resources and starts the task that follows the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(store: Store) -> Result<Arc<Self>, StoreError> {
        Self::start_listing(store, ListedIssuers::default()).await
    }

    /// As [`Replica::start`], in a process whose configuration lists these issuers.
    ///
    /// # Errors
    /// As [`Replica::start`].
    pub async fn start_listing(store: Store, issuers: ListedIssuers) -> Result<Arc<Self>, StoreError> {
        let (began, issuers) = (Instant::now(), Arc::new(issuers));
        let snapshot = Arc::new(store.load().await?.listing(Arc::clone(&issuers)));
        let recent = Mutex::new(RecentChanges::new(snapshot.revision()));
        let (notices, noticed) = watch::channel(Notice::Read(snapshot.revision(), began));
        let (queue, waiters) = mpsc::channel(MAX_QUEUED);
        let replica = Arc::new(Self {
            store: store.clone(),
            snapshot: watch::Sender::new(Arc::clone(&snapshot)),
            recent,
            confirmed_at: Mutex::new(began),
            known: Mutex::default(),
            signing_key: AtomicI64::new(0),
            queue,
            reads: AtomicU64::new(0),
            issuers,
        });
        let committed = store.commits.subscribe();
        let follower = Follower { replica: Arc::downgrade(&replica), snapshot };
        tokio::spawn(follower.run(waiters, noticed, committed));
        tokio::spawn(notices::follow(store, notices));
        Ok(replica)
    }

    /// The latest snapshot that this replica has. It may be old, so make no decision in it.
    pub fn latest(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// The latest snapshot, and each newer one soon after its commit, at this replica or another. A snapshot may be skipped
    /// where newer ones follow.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.subscribe()
    }

    /// When the latest snapshot was last known to be the store's, by a read that began then.
    pub fn confirmed_at(&self) -> Instant {
        *self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the signing key that was the current one when the last snapshot was read, at least as new as every snapshot
    /// that [`Replica::fresh`] has returned; 0 before the first one.
    pub fn signing_key(&self) -> i64 {
        self.signing_key.load(Ordering::Acquire)
    }

    /// As [`Store::changes_since`], from memory where the changes are recent.
    ///
    /// # Errors
    /// When the store has to be read, and cannot.
    pub async fn changes_since(&self, since: Revision, limit: usize) -> Result<Feed, StoreError> {
        let recent = self.recent().since(since, limit);
        match recent {
            Some(feed) => Ok(feed),
            None => self.store.changes_since(since, limit).await,
        }
    }

    /// A snapshot at least as new as the store was when this was called.
    ///
    /// # Errors
    /// When the store cannot be read in time.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, StoreError> {
        if let Some(snapshot) = self.present() {
            return Ok(snapshot);
        }
        let ended = || StoreError::Ended("replica");
        let (waiter, answer) = oneshot::channel();
        self.queue.send(waiter).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?.map_err(StoreError::NotFresh)
    }

    /// The latest snapshot, if it is known without a read that it is the store's present state.
    fn present(&self) -> Option<Arc<Snapshot>> {
        let known = *self.known.lock().unwrap_or_else(PoisonError::into_inner);
        self.store.commits.is_present(known?).then(|| self.latest())
    }

    /// Number of reads of the current revision so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    fn recent(&self) -> MutexGuard<'_, RecentChanges> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn confirm(&self, began: Instant) {
        *self.confirmed_at.lock().unwrap_or_else(PoisonError::into_inner) = began;
    }

    /// The present revision, after the key that signs at it has been noted.
    async fn read_head(&self) -> Result<Revision, StoreError> {
        let Head { revision, signing_key } = self.store.head().await?;
        self.signing_key.store(signing_key, Ordering::Release);
        Ok(revision)
    }

    fn publish(&self, snapshot: &Arc<Snapshot>) {
        self.snapshot.send_if_modified(|published| {
            let is_new = !Arc::ptr_eq(published, snapshot);
            published.clone_from(snapshot);
            is_new
        });
    }
}

/// The task that reads the store: for calls that wait, and when a notice reports a change.
struct Follower {
    replica: Weak<Replica>,
    /// As far as it has read. It is published once it is at the end of a commit.
    snapshot: Arc<Snapshot>,
}

impl Follower {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Waiter>,
        mut noticed: watch::Receiver<Notice>,
        mut committed: watch::Receiver<Revision>,
    ) {
        let mut waiters: Vec<Waiter> = Vec::new();
        loop {
            // One read serves all calls that wait when it begins; calls that arrive during it wait for the next one.
            let notice = tokio::select! {
                biased;
                calls = queue.recv_many(&mut waiters, MAX_QUEUED) => {
                    if calls == 0 {
                        return;
                    }
                    None
                }
                Ok(()) = committed.changed() => Some(Notice::Announced(*committed.borrow_and_update())),
                Ok(()) = noticed.changed() => Some(*noticed.borrow_and_update()),
            };
            let Some(replica) = self.replica.upgrade() else { return };
            if let Some(notice) = notice
                && self.is_known(&replica, notice)
            {
                continue;
            }
            replica.reads.fetch_add(1, Ordering::Relaxed);
            let caught_up = match tokio::time::timeout(CATCH_UP_TIMEOUT, self.catch_up(&replica)).await {
                Ok(Ok(())) => Ok(Arc::clone(&self.snapshot)),
                Ok(Err(error)) => Err(Arc::new(error)),
                Err(_) => Err(Arc::new(StoreError::NoAnswer(CATCH_UP_TIMEOUT.as_secs()))),
            };
            for waiter in waiters.drain(..) {
                // The caller may have gone away.
                let _ = waiter.send(caught_up.clone());
            }
        }
    }

    /// Whether a notice is about the revision that is published, so that there is nothing to read.
    fn is_known(&self, replica: &Replica, notice: Notice) -> bool {
        let (Notice::Announced(revision) | Notice::Read(revision, _)) = notice;
        let is_known = replica.latest().revision() == revision;
        if let Notice::Read(_, began) = notice
            && is_known
        {
            replica.confirm(began);
        }
        is_known
    }

    async fn catch_up(&mut self, replica: &Replica) -> Result<(), StoreError> {
        let store = &replica.store;
        let mut known = store.commits.known();
        let mut began = Instant::now();
        let mut current = replica.read_head().await?;
        while self.snapshot.revision() != current {
            if self.snapshot.revision() < current {
                match store.changes_since(self.snapshot.revision(), MAX_BATCH).await? {
                    Feed::Changes { up_to, changes } => {
                        replica.recent().extend(up_to, changes.iter().cloned());
                        self.snapshot = Arc::new(self.snapshot.after(up_to, changes));
                    }
                    Feed::Compacted => self.load(replica).await?,
                }
            } else {
                // The store went back in time: it was restored from a backup or replaced. Its present state counts.
                self.load(replica).await?;
            }
            if self.snapshot.revision() > current {
                // Others have committed meanwhile. A snapshot must not end in the middle of a commit.
                known = store.commits.known();
                began = Instant::now();
                current = replica.read_head().await?;
            }
        }
        replica.publish(&self.snapshot);
        // After it: who finds this finds that snapshot or a newer one.
        *replica.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        replica.confirm(began);
        Ok(())
    }

    async fn load(&mut self, replica: &Replica) -> Result<(), StoreError> {
        self.snapshot = Arc::new(replica.store.load().await?.listing(Arc::clone(&replica.issuers)));
        *replica.recent() = RecentChanges::new(self.snapshot.revision());
        Ok(())
    }
}
