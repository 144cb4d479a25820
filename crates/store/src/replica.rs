//! The snapshot that decisions are made in, and the promise that it is fresh.
//!
//! INVARIANT 5: [`Replica::fresh`] answers with a snapshot at least as new as the store was when it was called. That
//! takes one tiny read of the current revision that *begins* after the call; calls that wait at the same moment share
//! one, as in etcd's ReadIndex. A read that fails is an error for all who shared it, never an old snapshot.

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

/// Calls that wait for the next read before others wait for a place.
const QUEUE: usize = 1024;
/// Changes that are fetched at once while catching up.
const BATCH: usize = 1000;
/// After so long without an answer of the database there is no decision.
const PATIENCE: Duration = Duration::from_secs(5);

/// Follows a store.
pub struct Replica {
    snapshot: ArcSwap<Snapshot>,
    queue: mpsc::Sender<Waiter>,
    reads: AtomicU64,
}

type Waiter = oneshot::Sender<Result<Arc<Snapshot>, Arc<StoreError>>>;

impl Replica {
    /// Loads everything and begins to follow.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(store: Store) -> Result<Arc<Self>, StoreError> {
        let snapshot = ArcSwap::from_pointee(store.load().await?);
        let (queue, waiters) = mpsc::channel(QUEUE);
        let replica = Arc::new(Self { snapshot, queue, reads: AtomicU64::new(0) });
        tokio::spawn(follow(store, Arc::downgrade(&replica), waiters));
        Ok(replica)
    }

    /// The latest snapshot that is here; may be old, so nothing is decided in it.
    pub fn latest(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A snapshot at least as new as the store was when this was called.
    ///
    /// # Errors
    /// When that cannot be had.
    pub async fn fresh(&self) -> Result<Arc<Snapshot>, StoreError> {
        let ended = || StoreError::Ended("replica");
        let (waiter, answer) = oneshot::channel();
        self.queue.send(waiter).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?.map_err(StoreError::NotFresh)
    }

    /// How many reads of the current revision were made so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

async fn follow(store: Store, replica: std::sync::Weak<Replica>, mut queue: mpsc::Receiver<Waiter>) {
    let mut waiters: Vec<Waiter> = Vec::new();
    // All who wait now are served by one read that begins now; who comes during it waits for the next.
    while queue.recv_many(&mut waiters, QUEUE).await > 0 {
        let Some(replica) = replica.upgrade() else { return };
        replica.reads.fetch_add(1, Ordering::Relaxed);
        let caught_up = match tokio::time::timeout(PATIENCE, catch_up(&store, &replica.snapshot)).await {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(error)) => Err(Arc::new(error)),
            Err(_) => Err(Arc::new(StoreError::NoAnswer(PATIENCE.as_secs()))),
        };
        for waiter in waiters.drain(..) {
            // Whoever went away needs no answer.
            let _ = waiter.send(caught_up.clone());
        }
    }
}

async fn catch_up(store: &Store, held: &ArcSwap<Snapshot>) -> Result<Arc<Snapshot>, StoreError> {
    let current = store.current_revision().await?;
    let mut snapshot = held.load_full();
    while snapshot.revision() < current {
        snapshot = match store.changes_since(snapshot.revision(), BATCH).await? {
            Feed::Changes { up_to, changes } => Arc::new(snapshot.after(up_to, changes)),
            Feed::Compacted => Arc::new(store.load().await?),
        };
        held.store(Arc::clone(&snapshot));
    }
    if snapshot.revision() > current {
        // The store went back in time: restored from a backup, or replaced. What it says now is what counts.
        snapshot = Arc::new(store.load().await?);
        held.store(Arc::clone(&snapshot));
    }
    Ok(snapshot)
}
