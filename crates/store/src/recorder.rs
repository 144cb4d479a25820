//! Stores rows of audit and usage by group commit: requests that record at the same time share a transaction, and each
//! call returns once its rows are stored. A group is what is in the queue when the one before it is stored: no row waits for time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::{Postgres, QueryBuilder, Sqlite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    connection::{Connection, Transaction},
    database::{Database, Store, write_transaction_of},
    durability::{Durability, begin_postgres},
    error::StoreError,
    rows::{AuditRow, UsageRow, insert_audit, push_audit, push_usage},
};

/// Requests in the queue; further ones wait for a place in it.
const MAX_QUEUED: usize = 1024;
/// Requests that share a transaction.
const MAX_GROUP: usize = 256;
/// Rows that one statement inserts; fewer in powers of two, so that few different statements are prepared.
const MAX_ROWS: usize = 32;

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

    async fn record(&self, audit: Vec<AuditRow>, usage: Vec<UsageRow>) -> Result<(), StoreError> {
        let stored = self.enter(audit, usage, false).await?;
        stored.await.map_err(|_| ended())?.map_err(StoreError::NotRecorded)
    }

    /// Stores the rows that are in the queue, then accepts no more.
    pub async fn close(&self) {
        if let Ok(last) = self.enter(Vec::new(), Vec::new(), true).await {
            let _ = last.await;
        }
    }

    /// Puts rows into the queue. The first caller has a task of its own runtime store them, and all that come meanwhile, so that a
    /// lone caller waits for no other thread than the database's.
    async fn enter(
        &self,
        audit: Vec<AuditRow>,
        usage: Vec<UsageRow>,
        closes: bool,
    ) -> Result<oneshot::Receiver<Result<(), Arc<StoreError>>>, StoreError> {
        let place = Arc::clone(&self.0.places).acquire_owned().await.map_err(|_| ended())?;
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
    while let Some(group) = groups.next() {
        let (mut audit, mut usage, mut waiting) = (Vec::new(), Vec::new(), Vec::with_capacity(group.len()));
        for message in group {
            audit.extend(message.audit);
            usage.extend(message.usage);
            waiting.push((message.done, message.place));
        }
        let Shared { store, durability, .. } = &*groups.shared;
        let stored = store.insert(*durability, &audit, &usage).await.map_err(Arc::new);
        for (done, _place) in waiting {
            // A caller that stopped waiting has its rows stored all the same.
            let _ = done.send(stored.clone());
        }
    }
}

/// Rows that one statement inserts.
enum Rows<'a> {
    Audit(&'a [AuditRow]),
    Usage(&'a [UsageRow]),
}

/// Adds the insertion of rows to a query of either database.
macro_rules! push {
    ($query:ident, $rows:expr) => {
        match $rows {
            Rows::Audit(rows) => {
                push_audit!($query, rows);
            }
            Rows::Usage(rows) => {
                push_usage!($query, rows);
            }
        }
    };
}

impl Store {
    /// Checks whether rows can be stored now: inserts this one and deletes it again in one transaction, which takes the same
    /// lock, pages and disk as a row that stays.
    ///
    /// # Errors
    /// When the row cannot be stored.
    pub async fn check_recordable(&self, row: &AuditRow) -> Result<(), StoreError> {
        write_transaction_of!(&self.database, Durability::Crash, transaction => {
            insert_audit!(row, transaction)?;
            let removal = sqlx::query("DELETE FROM audit WHERE id = $1").bind(row.id.to_string());
            removal.execute(&mut *transaction).await?;
        });
        Ok(())
    }

    async fn insert(
        &self,
        durability: Durability,
        audit: &[AuditRow],
        usage: &[UsageRow],
    ) -> Result<(), StoreError> {
        let statements: Vec<Rows<'_>> = in_powers_of_two(audit)
            .map(Rows::Audit)
            .chain(in_powers_of_two(usage).map(Rows::Usage))
            .collect();
        let Some(last) = statements.len().checked_sub(1) else { return Ok(()) };
        match &self.database {
            // Every query is a round trip to SQLite's thread: the transaction begins with the first one and ends with the last.
            Database::Sqlite(sqlite) => {
                let mut connection = sqlite.writer(durability).await?;
                for (at, rows) in statements.into_iter().enumerate() {
                    let mut query =
                        QueryBuilder::<Sqlite>::new(if at == 0 { "BEGIN IMMEDIATE; " } else { "" });
                    push!(query, rows);
                    if at == last {
                        query.push("; COMMIT");
                    }
                    query.build().execute(&mut *connection).await?;
                }
                connection.release();
                sqlite.note_write();
            }
            Database::Postgres(pool) => {
                let connection = Connection::acquire(pool).await?;
                let mut transaction =
                    Transaction::<Postgres>::begin(connection, begin_postgres(durability)).await?;
                for rows in statements {
                    let mut query = QueryBuilder::<Postgres>::new("");
                    push!(query, rows);
                    query.build().execute(&mut *transaction).await?;
                }
                transaction.commit().await?;
            }
        }
        Ok(())
    }
}

/// The slices that the rows are inserted in.
fn in_powers_of_two<T>(rows: &[T]) -> impl Iterator<Item = &[T]> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let length = 1 << rest.len().min(MAX_ROWS).checked_ilog2()?;
        let (slice, others) = rest.split_at_checked(length)?;
        rest = others;
        Some(slice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_inserted_in_few_sizes() {
        let sizes = |rows: usize| in_powers_of_two(&vec![0; rows]).map(<[i32]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(7), [4, 2, 1]);
        assert_eq!(sizes(77), [32, 32, 8, 4, 1]);
    }
}
