//! Sharing counters with other replicas through the store: read at the first attempt and when they are old, written in
//! groups, so that attempts cause few transactions however many there are.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use mcpctl_store::{CounterKey, Store, StoreError};
use tokio::sync::{Notify, Semaphore};

use super::counters::Counters;

/// What is counted in this time shares a transaction.
const GROUP_INTERVAL: Duration = Duration::from_millis(50);
/// Counters that share a transaction at the most.
const GROUP: usize = 512;
/// Reads at once, so that attempts do not take the connections that every other request needs.
const READS: usize = 2;
/// How often full counters are removed from the store, and how many at once.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
const PRUNE: u32 = 10_000;
/// How long to wait after the store failed.
const RETRY: Duration = Duration::from_secs(1);

/// Counters of this process, and the store that knows those of all.
pub struct Shared {
    counters: Mutex<Counters>,
    store: Store,
    reads: Semaphore,
    /// Held while a group is written, so that the end of the daemon waits for it.
    writing: tokio::sync::Mutex<()>,
    changed: Notify,
}

/// Microseconds since 1970.
pub fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

impl Shared {
    /// Starts to write what is counted; ends with the daemon.
    pub fn start(store: Store) -> Arc<Self> {
        let shared = Arc::new(Self {
            counters: Mutex::default(),
            store,
            reads: Semaphore::new(READS),
            writing: tokio::sync::Mutex::default(),
            changed: Notify::new(),
        });
        tokio::spawn(write(Arc::clone(&shared)));
        tokio::spawn(prune(Arc::clone(&shared)));
        shared
    }

    /// Works with the counters; what it changes is written soon.
    pub fn with<T>(&self, work: impl FnOnce(&mut Counters) -> T) -> T {
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let done = work(&mut counters);
        if counters.has_unsent() {
            self.changed.notify_one();
        }
        done
    }

    /// Makes sure that what other replicas counted is known here.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn read(&self, keys: &[CounterKey]) -> Result<(), StoreError> {
        if self.with(|counters| counters.unread(keys, now())).is_empty() {
            return Ok(());
        }
        let _turn = self.reads.acquire().await;
        // Read by another attempt meanwhile, perhaps.
        let unread = self.with(|counters| counters.unread(keys, now()));
        if !unread.is_empty() {
            let found = self.store.counters(&unread).await?;
            self.with(|counters| counters.read(&unread, &found, now()));
        }
        Ok(())
    }

    /// Writes a group of what the store does not know; whether that went well.
    pub async fn write_group(&self) -> bool {
        let _turn = self.writing.lock().await;
        let changes = self.with(|counters| counters.take_unsent(GROUP));
        if changes.is_empty() {
            return true;
        }
        match self.store.change_counters(now(), changes.clone()).await {
            Ok(stored) => self.with(|counters| counters.sent(&stored, now())),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "attempts to sign in could not be counted for other replicas");
                self.with(|counters| counters.not_sent(changes));
                return false;
            }
        }
        true
    }
}

async fn write(shared: Arc<Shared>) {
    loop {
        shared.changed.notified().await;
        tokio::time::sleep(GROUP_INTERVAL).await;
        if !shared.write_group().await {
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn prune(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    loop {
        ticks.tick().await;
        match shared.store.prune_counters(now(), PRUNE).await {
            Ok(removed) => tracing::debug!(removed, "full counters removed"),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "full counters of attempts could not be removed");
            }
        }
    }
}
