//! Removing records that are older than they are kept, a batch at a time, so that no transaction holds the store's
//! writer for long.

use jiff::Timestamp;

use crate::{
    database::{Store, write},
    error::StoreError,
};

/// Removes the oldest rows of a table that has the columns `id` and `at`.
macro_rules! prune {
    ($store:expr, $table:literal, $before:expr, $limit:expr) => {
        Ok(write!(&$store.database, transaction => {
            let removed = sqlx::query(concat!(
                "DELETE FROM ", $table, " WHERE id IN (SELECT id FROM ", $table,
                " WHERE at < $1 ORDER BY at LIMIT $2)",
            ))
            .bind($before.as_microsecond())
            .bind(i64::from($limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            transaction.commit().await?;
            removed
        }))
    };
}

impl Store {
    /// Removes audit rows from before this moment, at most `limit`, the oldest first; answers how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_audit(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        prune!(self, "audit", before, limit)
    }

    /// Removes usage rows from before this moment, at most `limit`, the oldest first; answers how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_usage(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        prune!(self, "usage", before, limit)
    }
}
