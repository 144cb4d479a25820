//! Shares counters with other replicas through the store. It reads a counter at its first attempt and when it is old, and
//! writes changes in groups, so that any number of attempts causes few transactions.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use mcpctl_store::{CounterKey, Store, StoreError};
use tokio::sync::{Notify, Semaphore};

use super::counters::Counters;

/// Changes of this time share a transaction.
const GROUP_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum of counters that share a transaction.
const MAX_GROUP: usize = 512;
/// Maximum of reads at once, so that attempts do not take the connections that other requests need.
const MAX_READS: usize = 2;
/// How often full counters are deleted from the store.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Maximum of counters that one transaction deletes.
const MAX_PRUNED: u32 = 10_000;
/// How long the writer waits after the store failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The counters of this process, and the store that has those of all replicas.
pub struct SharedCounters {
    counters: Mutex<Counters>,
    store: Store,
    reads: Semaphore,
    /// Held while a group is written, so that the shutdown waits for it.
    writing: tokio::sync::Mutex<()>,
    changed: Notify,
}

/// Microseconds since 1970.
pub fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

impl SharedCounters {
    /// Starts the tasks that write and prune counters; they end with the daemon.
    pub fn start(store: Store) -> Arc<Self> {
        let shared = Arc::new(Self {
            counters: Mutex::default(),
            store,
            reads: Semaphore::new(MAX_READS),
            writing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        });
        tokio::spawn(write(Arc::clone(&shared)));
        tokio::spawn(prune(Arc::clone(&shared)));
        shared
    }

    /// Runs `work` on the counters, and schedules the write of its changes.
    pub fn with<T>(&self, work: impl FnOnce(&mut Counters) -> T) -> T {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut counters);
        if counters.has_unsent() {
            self.changed.notify_one();
        }
        done
    }

    /// Loads the counts of other replicas, unless they were loaded lately.
    ///
    /// # Errors
    /// When the store does not respond.
    pub async fn read(&self, keys: &[CounterKey]) -> Result<(), StoreError> {
        if self.with(|counters| counters.unread(keys, now())).is_empty() {
            return Ok(());
        }
        let _turn = self.reads.acquire().await;
        // Another attempt may have read them meanwhile.
        let unread = self.with(|counters| counters.unread(keys, now()));
        if !unread.is_empty() {
            let found = self.store.counters(&unread).await?;
            self.with(|counters| counters.read(&unread, &found, now()));
        }
        Ok(())
    }

    /// Writes one group of changes to the store; returns whether that succeeded.
    pub async fn write_group(&self) -> bool {
        let _turn = self.writing.lock().await;
        let changes = self.with(|counters| counters.take_unsent(MAX_GROUP));
        if changes.is_empty() {
            return true;
        }
        match self.store.change_counters(now(), changes.clone()).await {
            Ok(stored) => self.with(|counters| counters.sent(&stored, now())),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "login attempts could not be shared with other replicas");
                self.with(|counters| counters.not_sent(changes));
                return false;
            }
        }
        true
    }
}

async fn write(shared: Arc<SharedCounters>) {
    loop {
        shared.changed.notified().await;
        tokio::time::sleep(GROUP_INTERVAL).await;
        if !shared.write_group().await {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }
}

async fn prune(shared: Arc<SharedCounters>) {
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        ticks.tick().await;
        match shared.store.prune_counters(now(), MAX_PRUNED).await {
            Ok(removed) => tracing::debug!(removed, "full counters removed"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "full counters of login attempts could not be removed");
            }
        }
    }
}
