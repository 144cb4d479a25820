//! The snapshot that decisions are made in, kept fresh.
//!
//! INVARIANT 5: [`Replica::fresh`] returns a snapshot at least as new as the store was when it was called. That takes one
//! small read of the current revision that *begins* after the call; calls that wait at the same time share one, as in
//! etcd's ReadIndex. If the read fails, all calls that share it fail: none gets an old snapshot.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use mcpctl_access::Snapshot;
use tokio::sync::{mpsc, oneshot};

use crate::{database::Store, error::StoreError, resources::Feed};

/// Calls that wait for the next read; further ones wait for a place in the queue.
const MAX_QUEUED: usize = 1024;
/// Changes that one read fetches while catching up.
const MAX_BATCH: usize = 1000;
/// How long a call waits for the database; then it fails, and the request is denied.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(5);

/// Follows the changes of a store.
pub struct Replica {
    snapshot: ArcSwap<Snapshot>,
    queue: mpsc::Sender<Waiter>,
    reads: AtomicU64,
}

type Waiter = oneshot::Sender<Result<Arc<Snapshot>, Arc<StoreError>>>;

impl Replica {
    /// Loads all resources and starts the task that follows the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(store: Store) -> Result<Arc<Self>, StoreError> {
        let snapshot = ArcSwap::from_pointee(store.load().await?);
        let (queue, waiters) = mpsc::channel(MAX_QUEUED);
        let replica = Arc::new(Self { snapshot, queue, reads: AtomicU64::new(0) });
        tokio::spawn(follow(store, Arc::downgrade(&replica), waiters));
        Ok(replica)
    }

    /// The latest snapshot that this replica has. It may be old, so make no decision in it.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A snapshot at least as new as the store was when this was called.
    ///
    /// # Errors
    /// When the store cannot be read in time.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, StoreError> {
        let ended = || StoreError::Ended("replica");
        let (waiter, answer) = oneshot::channel();
        self.queue.send(waiter).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?.map_err(StoreError::NotFresh)
    }

    /// Number of reads of the current revision so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

async fn follow(store: Store, replica: std::sync::Weak<Replica>, mut queue: mpsc::Receiver<Waiter>) {
    let mut waiters: Vec<Waiter> = Vec::new();
    // One read serves all calls that wait when it begins; calls that arrive during it wait for the next one.
    while queue.recv_many(&mut waiters, MAX_QUEUED).await > 0 {
        let Some(replica) = replica.upgrade() else { return };
        replica.reads.fetch_add(1, Ordering::Relaxed);
        let caught_up =
            match tokio::time::timeout(CATCH_UP_TIMEOUT, catch_up(&store, &replica.snapshot)).await {
                Ok(Ok(snapshot)) => Ok(snapshot),
                Ok(Err(error)) => Err(Arc::new(error)),
                Err(_) => Err(Arc::new(StoreError::NoAnswer(CATCH_UP_TIMEOUT.as_secs()))),
            };
        for waiter in waiters.drain(..) {
            // The caller may have gone away.
            let _ = waiter.send(caught_up.clone());
        }
    }
}

async fn catch_up(store: &Store, held: &ArcSwap<Snapshot>) -> Result<Arc<Snapshot>, StoreError> {
    let current = store.current_revision().await?;
    let mut snapshot = held.load_full();
    while snapshot.revision() < current {
        snapshot = match store.changes_since(snapshot.revision(), MAX_BATCH).await? {
            Feed::Changes { up_to, changes } => Arc::new(snapshot.after(up_to, changes)),
            Feed::Compacted => Arc::new(store.load().await?),
        };
        held.store(Arc::clone(&snapshot));
    }
    if snapshot.revision() > current {
        // The store went back in time: it was restored from a backup or replaced. Its present state counts.
        snapshot = Arc::new(store.load().await?);
        held.store(Arc::clone(&snapshot));
    }
    Ok(snapshot)
}
