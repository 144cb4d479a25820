//! Deletes rows of audit and usage whose retention has passed, in batches, so that no transaction holds the write lock
//! for long.

use jiff::Timestamp;

use crate::{
    database::{Store, write_transaction_of},
    durability::Durability,
    error::StoreError,
};

/// Deletes the oldest rows of a table that has the columns `id` and `at`.
macro_rules! prune {
    ($store:expr, $table:literal, $condition:literal, $before:expr, $limit:expr) => {
        Ok(write_transaction_of!(&$store.database, Durability::Crash, transaction => {
            sqlx::query(concat!(
                "DELETE FROM ", $table, " WHERE id IN (SELECT id FROM ", $table,
                " WHERE at < $1", $condition, " ORDER BY at LIMIT $2)",
            ))
            .bind($before.as_microsecond())
            .bind(i64::from($limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected()
        }))
    };
}

impl Store {
    /// Deletes at most `limit` audit rows from before this time, the oldest first, and returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_audit(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        prune!(self, "audit", "", before, limit)
    }

    /// Deletes at most `limit` usage rows from before this time, the oldest first, and returns how many. A row that is not in
    /// the sums yet stays.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_usage(&self, before: Timestamp, limit: u32) -> Result<u64, StoreError> {
        prune!(self, "usage", " AND counted = 1", before, limit)
    }
}
