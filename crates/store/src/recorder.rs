//! Durable rows by group commit: whoever records at the same moment shares a transaction, and is answered when it is
//! stored.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{
    database::{Store, write},
    error::StoreError,
    rows::{AuditRow, UsageRow, insert_audit, insert_usage},
};

/// Requests that wait to be recorded before others wait for a place in the queue.
const QUEUE: usize = 1024;
/// Requests that share a transaction at the most.
const GROUP: usize = 256;

/// Takes rows of audit and usage. Clones share the queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<Message>,
}

enum Message {
    Rows { audit: Vec<AuditRow>, usage: Vec<UsageRow>, done: oneshot::Sender<Result<(), Arc<StoreError>>> },
    Close(oneshot::Sender<()>),
}

impl Recorder {
    /// Starts taking rows.
    pub fn start(store: Store) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        tokio::spawn(write_groups(store, messages));
        Self { queue }
    }

    /// Stores decisions; returns when they are stored.
    ///
    /// # Errors
    /// When they are not.
    pub async fn audit(&self, rows: Vec<AuditRow>) -> Result<(), StoreError> {
        self.record(rows, Vec::new()).await
    }

    /// Stores usage; returns when it is stored.
    ///
    /// # Errors
    /// When it is not.
    pub async fn usage(&self, rows: Vec<UsageRow>) -> Result<(), StoreError> {
        self.record(Vec::new(), rows).await
    }

    async fn record(&self, audit: Vec<AuditRow>, usage: Vec<UsageRow>) -> Result<(), StoreError> {
        let closed = || StoreError::Ended("recorder");
        let (done, stored) = oneshot::channel();
        self.queue.send(Message::Rows { audit, usage, done }).await.map_err(|_| closed())?;
        stored.await.map_err(|_| closed())?.map_err(StoreError::NotRecorded)
    }

    /// Stores what was handed over so far, and takes nothing more.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

async fn write_groups(store: Store, mut messages: mpsc::Receiver<Message>) {
    let mut group = Vec::with_capacity(GROUP);
    while messages.recv_many(&mut group, GROUP).await > 0 {
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
            // Whoever stopped waiting has its rows stored all the same.
            let _ = done.send(stored.clone());
        }
        if let Some(done) = closing {
            let _ = done.send(());
            return;
        }
    }
}

impl Store {
    /// Whether a row can be put on record now: stores this one and removes it again, in one transaction. That takes the
    /// same lock, the same pages and the same disk as a row that stays.
    ///
    /// # Errors
    /// When it cannot.
    pub async fn check_recordable(&self, row: &AuditRow) -> Result<(), StoreError> {
        write!(&self.database, transaction => {
            insert_audit!(row, transaction)?;
            let removal = sqlx::query("DELETE FROM audit WHERE id = $1").bind(row.id.to_string());
            removal.execute(&mut *transaction).await?;
            transaction.commit().await?;
        });
        Ok(())
    }

    async fn insert(&self, audit: &[AuditRow], usage: &[UsageRow]) -> Result<(), StoreError> {
        if audit.is_empty() && usage.is_empty() {
            return Ok(());
        }
        write!(&self.database, transaction => {
            for row in audit {
                insert_audit!(row, transaction)?;
            }
            for row in usage {
                insert_usage!(row, transaction)?;
            }
            transaction.commit().await?;
        });
        Ok(())
    }
}
