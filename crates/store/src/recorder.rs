//! Stores rows of audit and usage by group commit: requests that record at the same time share a transaction, and each
//! call returns once its rows are on disk.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{
    database::{Store, write_transaction},
    error::StoreError,
    rows::{AuditRow, UsageRow, insert_audit, insert_usage},
};

/// Requests in the queue; further ones wait for a place in it.
const MAX_QUEUED: usize = 1024;
/// Requests that share a transaction.
const MAX_GROUP: usize = 256;

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
    pub fn start(store: Store) -> Self {
        let (queue, messages) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(write_groups(store, messages));
        Self { queue }
    }

    /// Stores audit rows, and returns once they are on disk.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub async fn audit(&self, rows: Vec<AuditRow>) -> Result<(), StoreError> {
        self.record(rows, Vec::new()).await
    }

    /// Stores usage rows, and returns once they are on disk.
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

async fn write_groups(store: Store, mut messages: mpsc::Receiver<Message>) {
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
        let stored = store.insert(&audit, &usage).await.map_err(Arc::new);
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

impl Store {
    /// Checks whether rows can be stored now: inserts this one and deletes it again in one transaction, which takes the same
    /// lock, pages and disk as a row that stays.
    ///
    /// # Errors
    /// When the row cannot be stored.
    pub async fn check_recordable(&self, row: &AuditRow) -> Result<(), StoreError> {
        write_transaction!(&self.database, transaction => {
            insert_audit!(row, transaction)?;
            let removal = sqlx::query("DELETE FROM audit WHERE id = $1").bind(row.id.to_string());
            removal.execute(&mut *transaction).await?;
        });
        Ok(())
    }

    async fn insert(&self, audit: &[AuditRow], usage: &[UsageRow]) -> Result<(), StoreError> {
        if audit.is_empty() && usage.is_empty() {
            return Ok(());
        }
        write_transaction!(&self.database, transaction => {
            for row in audit {
                insert_audit!(row, transaction)?;
            }
            for row in usage {
                insert_usage!(row, transaction)?;
            }
        });
        Ok(())
    }
}
