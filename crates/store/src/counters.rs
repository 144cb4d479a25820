//! Counters of login attempts that replicas share. A counter is the time at which it is refilled. The caller decides what
//! a counter counts, and how many attempts it allows.

use sqlx::Row as _;

use crate::{
    database::{Store, read_connection, write_transaction_of},
    durability::Durability,
    error::StoreError,
};

/// A digest of what is counted.
pub type CounterKey = [u8; 16];

/// Maximum of counters that one read looks up.
pub const MAX_LOOKUP: usize = 4;

/// How a counter changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterChange {
    /// Adds microseconds, which may be negative, to the time at which it is refilled; to now if it was full.
    Add(i64),
    /// Sets it to full, then adds the microseconds.
    Reset(i64),
}

impl Store {
    /// When each of at most [`MAX_LOOKUP`] counters is refilled, in microseconds since 1970. The result may omit full
    /// counters.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counters(&self, keys: &[CounterKey]) -> Result<Vec<(CounterKey, i64)>, StoreError> {
        let Some(any) = keys.first() else { return Ok(Vec::new()) };
        let key = |at: usize| keys.get(at).unwrap_or(any).to_vec();
        read_connection!(&self.database, connection => {
            let rows = sqlx::query("SELECT key, refilled_at FROM login_counters WHERE key IN ($1, $2, $3, $4)")
                .bind(key(0))
                .bind(key(1))
                .bind(key(2))
                .bind(key(3))
                .fetch_all(&mut *connection)
                .await?;
            let mut found = Vec::with_capacity(rows.len());
            for row in &rows {
                let key: Vec<u8> = row.try_get("key")?;
                if let Ok(key) = CounterKey::try_from(key.as_slice()) {
                    found.push((key, row.try_get("refilled_at")?));
                }
            }
            Ok(found)
        })
    }

    /// Changes counters in one transaction and returns when each is refilled, in microseconds since 1970.
    ///
    /// # Errors
    /// When the database does not answer; then nothing was changed.
    pub async fn change_counters(
        &self,
        now: i64,
        mut changes: Vec<(CounterKey, CounterChange)>,
    ) -> Result<Vec<(CounterKey, i64)>, StoreError> {
        // All replicas lock rows in the same order, so that they never deadlock.
        changes.sort_unstable_by_key(|(key, _)| *key);
        let mut changed = Vec::with_capacity(changes.len());
        write_transaction_of!(&self.database, Durability::Crash, transaction => {
            for (key, change) in &changes {
                let (added, from_zero) = match change {
                    CounterChange::Add(added) => (*added, 0_i64),
                    CounterChange::Reset(added) => (*added, 1_i64),
                };
                let refilled_at: i64 = sqlx::query_scalar(
                    "INSERT INTO login_counters (key, refilled_at) VALUES ($1, $2 + $3) \
                     ON CONFLICT (key) DO UPDATE SET refilled_at = $3 + \
                     CASE WHEN login_counters.refilled_at > $2 AND $4 = 0 THEN login_counters.refilled_at ELSE $2 END \
                     RETURNING refilled_at",
                )
                .bind(key.as_slice())
                .bind(now)
                .bind(added)
                .bind(from_zero)
                .fetch_one(&mut *transaction)
                .await?;
                changed.push((*key, refilled_at));
            }
        });
        Ok(changed)
    }

    /// Deletes at most `limit` counters that were full before this time, and returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_counters(&self, before: i64, limit: u32) -> Result<u64, StoreError> {
        Ok(write_transaction_of!(&self.database, Durability::Crash, transaction => {
            sqlx::query(
                "DELETE FROM login_counters WHERE key IN \
                 (SELECT key FROM login_counters WHERE refilled_at < $1 ORDER BY refilled_at LIMIT $2)",
            )
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected()
        }))
    }
}
