//! Stores rows of audit and usage by group commit: requests that record at the same time share a transaction, and each
//! call returns once its rows are stored. A group is what is in the queue when the one before it is stored: no row waits for time.

use std::sync::Arc;

use sqlx::{Postgres, QueryBuilder, Sqlite};
use tokio::sync::{mpsc, oneshot};

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
pub struct Recorder {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Rows { audit: Vec<AuditRow>, usage: Vec<UsageRow>, done: oneshot::Sender<Result<(), Arc<StoreError>>> },
    Close(oneshot::Sender<()>),
}

impl Recorder {
    /// Starts the task that stores the rows.
    pub fn start(store: Store, durability: Durability) -> Self {
        let (queue, messages) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(write_groups(store, durability, messages));
        Self { queue }
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
        let closed = || StoreError::Ended("recorder");
        let (done, stored) = oneshot::channel();
        self.queue.send(Message::Rows { audit, usage, done }).await.map_err(|_| closed())?;
        stored.await.map_err(|_| closed())?.map_err(StoreError::NotRecorded)
    }

    /// Stores the rows that are in the queue, then accepts no more.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

async fn write_groups(store: Store, durability: Durability, mut messages: mpsc::Receiver<Message>) {
    let mut group = Vec::with_capacity(MAX_GROUP);
    while messages.recv_many(&mut group, MAX_GROUP).await > 0 {
        let (mut audit, mut usage, mut waiting, mut closing) = (Vec::new(), Vec::new(), Vec::new(), None);
        for message in group.drain(..) {
            match message {
                Message::Rows { audit: a, usage: u, done } => {
                    audit.extend(a);
                    usage.extend(u);
                    waiting.push(done);
                }
                Message::Close(done) => closing = Some(done),
            }
        }
        let stored = store.insert(durability, &audit, &usage).await.map_err(Arc::new);
        for done in waiting {
            // A caller that stopped waiting has its rows stored all the same.
            let _ = done.send(stored.clone());
        }
        if let Some(done) = closing {
            let _ = done.send(());
            return;
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
