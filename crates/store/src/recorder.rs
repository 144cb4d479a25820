//! Stores rows of audit and usage by group commit: requests that record at the same time share a transaction, and each
//! call returns once its rows are stored. A group is what the requests that are ready add before it begins: no row waits for time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::Either;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::yield_now,
};

use crate::{
    database::{Store, write_transaction_of},
    durability::Durability,
    error::StoreError,
    record_group::{MAX_ROWS, RecordGroup},
    rows::{AuditRow, UsageRow, insert_audit},
};

/// Requests in the queue; further ones wait for a place in it.
const MAX_QUEUED: usize = 1024;
/// Requests that share a transaction.
const MAX_GROUP: usize = MAX_ROWS;

/// Stores rows of audit and usage. Clones share the queue.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    store: Store,
    durability: Durability,
    queue: Mutex<Queue>,
    places: Arc<Semaphore>,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Message>,
    /// A task stores the rows that wait.
    has_task: bool,
    is_closed: bool,
}

struct Message {
    audit: Vec<AuditRow>,
    usage: Vec<UsageRow>,
    done: oneshot::Sender<Result<(), Arc<StoreError>>>,
    place: OwnedSemaphorePermit,
}

/// Resolves when a group of rows is stored, or could not be.
type Stored = oneshot::Receiver<Result<(), Arc<StoreError>>>;

impl Recorder {
    /// A recorder of rows in this store.
    pub fn new(store: Store, durability: Durability) -> Self {
        let places = Arc::new(Semaphore::new(MAX_QUEUED));
        Self(Arc::new(Shared { store, durability, queue: Mutex::default(), places }))
    }

    /// Stores audit rows, and returns once they are stored.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub async fn audit(&self, rows: Vec<AuditRow>) -> Result<(), StoreError> {
        self.record(rows, Vec::new()).await
    }

    /// Stores usage rows, and returns once they are stored.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub async fn usage(&self, rows: Vec<UsageRow>) -> Result<(), StoreError> {
        self.record(Vec::new(), rows).await
    }

    /// Puts usage rows into the queue before it returns, where there is room: a later [`Recorder::close`] stores them. The
    /// future ends once they are stored.
    pub fn begin_usage(&self, rows: Vec<UsageRow>) -> impl Future<Output = Result<(), StoreError>> + use<> {
        match Arc::clone(&self.0.places).try_acquire_owned() {
            Ok(place) => {
                let entered = self.push(place, Vec::new(), rows, false);
                Either::Left(async { stored(entered?).await })
            }
            Err(_) => {
                let recorder = self.clone();
                Either::Right(async move { recorder.usage(rows).await })
            }
        }
    }

    async fn record(&self, audit: Vec<AuditRow>, usage: Vec<UsageRow>) -> Result<(), StoreError> {
        stored(self.enter(audit, usage, false).await?).await
    }

    /// Stores the rows that are in the queue, then accepts no more.
    pub async fn close(&self) {
        if let Ok(last) = self.enter(Vec::new(), Vec::new(), true).await {
            let _ = last.await;
        }
    }

    async fn enter(
        &self,
        audit: Vec<AuditRow>,
        usage: Vec<UsageRow>,
        closes: bool,
    ) -> Result<Stored, StoreError> {
        let place = Arc::clone(&self.0.places).acquire_owned().await.map_err(|_| ended())?;
        self.push(place, audit, usage, closes)
    }

    /// Puts rows into the queue. The first caller has a task of its own runtime store them, and all that come meanwhile, so that a
    /// lone caller waits for no other thread than the database's.
    fn push(
        &self,
        place: OwnedSemaphorePermit,
        audit: Vec<AuditRow>,
        usage: Vec<UsageRow>,
        closes: bool,
    ) -> Result<Stored, StoreError> {
        let (done, stored) = oneshot::channel();
        let mut queue = self.0.queue();
        if queue.is_closed {
            return Err(ended());
        }
        queue.is_closed = closes;
        queue.waiting.push(Message { audit, usage, done, place });
        if !std::mem::replace(&mut queue.has_task, true) {
            tokio::spawn(store_groups(Groups { shared: Arc::clone(&self.0), are_done: false }));
        }
        Ok(stored)
    }
}

/// Waits until a group is stored.
async fn stored(group: Stored) -> Result<(), StoreError> {
    group.await.map_err(|_| ended())?.map_err(StoreError::NotRecorded)
}

fn ended() -> StoreError {
    StoreError::Ended("recorder")
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one task stores: the queue, until it is empty.
struct Groups {
    shared: Arc<Shared>,
    are_done: bool,
}

impl Groups {
    fn next(&mut self) -> Option<Vec<Message>> {
        let mut queue = self.shared.queue();
        let length = queue.waiting.len().min(MAX_GROUP);
        self.are_done = length == 0;
        queue.has_task = !self.are_done;
        (length > 0).then(|| queue.waiting.drain(..length).collect())
    }

    /// Lets the requests that are ready now run first, for as long as they add rows: the more share a transaction, the less each
    /// one costs. No time passes in it that another request would not use.
    async fn gather(&self) {
        let mut gathered = 0;
        loop {
            let waiting = self.shared.queue().waiting.len();
            if waiting == gathered || waiting >= MAX_GROUP {
                return;
            }
            gathered = waiting;
            yield_now().await;
        }
    }
}

impl Drop for Groups {
    /// Where the task ends early, as its runtime does, the callers that wait get an error, and the next one begins another task.
    fn drop(&mut self) {
        if !self.are_done {
            let mut queue = self.shared.queue();
            queue.has_task = false;
            queue.waiting.clear();
        }
    }
}

async fn store_groups(mut groups: Groups) {
    loop {
        groups.gather().await;
        let Some(group) = groups.next() else { return };
        let (mut rows, mut waiting) = (RecordGroup::default(), Vec::with_capacity(group.len()));
        for message in group {
            rows.audit.extend(message.audit);
            rows.usage.extend(message.usage);
            waiting.push((message.done, message.place));
        }
        let Shared { store, durability, .. } = &*groups.shared;
        // Boxed, so that the task that each run of groups begins is small.
        let stored = Box::pin(store.insert(*durability, rows)).await.map_err(Arc::new);
        for (done, _place) in waiting {
            // A caller that stopped waiting has its rows stored all the same.
            let _ = done.send(stored.clone());
        }
    }
}

impl Store {
    /// Checks whether rows can be stored now: inserts this one and deletes it again in one transaction, which takes the same
    /// lock, pages and disk as a row that stays.
    ///
    /// # Errors
    /// When the row cannot be stored.
    pub async fn check_recordable(&self, row: &AuditRow) -> Result<(), StoreError> {
        write_transaction_of!(&self.database, Durability::Crash, transaction => {
            insert_audit!(row.clone(), transaction)?;
            let removal = sqlx::query("DELETE FROM audit WHERE id = $1").bind(row.id.to_string());
            removal.execute(&mut *transaction).await?;
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mcpctl_secret::envelope::{Keyring, MasterKey};

    use super::*;
    use crate::Location;

    #[tokio::test]
    async fn requests_that_are_ready_share_a_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("mcpd.sqlite"));
        let keys = Arc::new(Keyring::new(MasterKey::generate().unwrap()));
        let store = Store::open(&location, keys).await.unwrap();
        let recorder = Recorder::new(store, Durability::Crash);
        // This test is the task that stores.
        recorder.0.queue().has_task = true;
        let mut groups = Groups { shared: Arc::clone(&recorder.0), are_done: false };
        for steps in 0..8 {
            let recorder = recorder.clone();
            tokio::spawn(async move {
                for _ in 0..steps {
                    yield_now().await;
                }
                recorder.audit(Vec::new()).await
            });
        }
        // The first one begins the task, and each of the others is ready after the one before it.
        yield_now().await;
        groups.gather().await;
        assert_eq!(groups.next().map(|group| group.len()), Some(8));
        groups.gather().await;
        assert!(groups.next().is_none());
    }
}
