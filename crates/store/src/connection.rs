//! Pooled connections, and transactions on them. A connection returns to its pool only after a clean end. After an error,
//! a cancelled request or a panic it is closed, because its state is unknown. SQLite, for example, rolls back by itself
//! when the disk is full, while the pool counts the transaction as open for ever after.

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use mcpctl_api::Revision;
use sqlx::{Pool, Postgres, Sqlite, pool::PoolConnection};
use tokio::sync::OwnedSemaphorePermit;

use crate::{commits::RunningCommit, error::StoreError};

/// How long a statement waits for a connection or a lock.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection that is closed when it is dropped, unless it was released before.
pub(crate) struct Connection<DB: sqlx::Database> {
    inner: PoolConnection<DB>,
    clean: bool,
    /// The turn to write, where writers take turns: it ends with the connection.
    turn: Option<OwnedSemaphorePermit>,
}

impl<DB: sqlx::Database> Connection<DB> {
    pub(crate) async fn acquire(pool: &Pool<DB>) -> Result<Self, sqlx::Error> {
        Ok(Self { inner: pool.acquire().await?, clean: false, turn: None })
    }

    /// Ends the turn with the connection.
    pub(crate) fn holding(mut self, turn: OwnedSemaphorePermit) -> Self {
        self.turn = Some(turn);
        self
    }

    /// Returns it to its pool.
    pub(crate) fn release(mut self) {
        self.clean = true;
    }
}

impl<DB: sqlx::Database> Drop for Connection<DB> {
    fn drop(&mut self) {
        if !self.clean {
            self.inner.close_on_drop();
        }
    }
}

impl<DB: sqlx::Database> Deref for Connection<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.inner
    }
}

impl<DB: sqlx::Database> DerefMut for Connection<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.inner
    }
}

/// A transaction that ends with its connection, unless it is committed or rolled back.
pub(crate) struct Transaction<DB: sqlx::Database>(Connection<DB>);

// Plain statements instead of sqlx's transactions: their nesting count is wrong once SQLite has rolled back by itself.
macro_rules! transactions {
    ($($database:ty)*) => { $(
        impl Transaction<$database> {
            pub(crate) async fn begin(
                mut connection: Connection<$database>,
                statement: &'static str,
            ) -> Result<Self, sqlx::Error> {
                sqlx::raw_sql(statement).execute(&mut *connection).await?;
                Ok(Self(connection))
            }

            pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
                self.end("COMMIT").await
            }

            /// Commits in a task of its own, so that the commit is noted even if its caller goes away meanwhile.
            pub(crate) async fn commit_noting(
                self,
                running: RunningCommit,
                revision: Option<Revision>,
            ) -> Result<(), StoreError> {
                let committed = tokio::spawn(async move {
                    self.commit().await?;
                    running.took_effect(revision)
                });
                committed.await.map_err(|_| StoreError::Ended("commit"))?
            }

            pub(crate) async fn rollback(self) -> Result<(), sqlx::Error> {
                self.end("ROLLBACK").await
            }

            async fn end(self, statement: &'static str) -> Result<(), sqlx::Error> {
                let Self(mut connection) = self;
                sqlx::raw_sql(statement).execute(&mut *connection).await?;
                connection.release();
                Ok(())
            }
        }
    )* };
}

transactions!(Sqlite Postgres);

impl<DB: sqlx::Database> Deref for Transaction<DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.0
    }
}

impl<DB: sqlx::Database> DerefMut for Transaction<DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.0
    }
}
