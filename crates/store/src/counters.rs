//! Counters of attempts that replicas share: of each, when it is refilled. What is counted, and how many attempts a
//! counter allows, is decided elsewhere.

use sqlx::Row as _;

use crate::{
    database::{Store, read, write},
    error::StoreError,
};

/// A digest of what is counted.
pub type CounterKey = [u8; 16];

/// Counters that one read looks up at the most.
pub const MAX_LOOKUP: usize = 4;

/// What becomes of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CounterChange {
    /// It is refilled so many microseconds later, or earlier; from now on where it was full.
    Add(i64),
    /// It is full, and then the microseconds are added.
    Reset(i64),
}

impl Store {
    /// When each of at most [`MAX_LOOKUP`] counters is refilled, in microseconds since 1970; those that are full may be
    /// left out.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counters(&self, keys: &[CounterKey]) -> Result<Vec<(CounterKey, i64)>, StoreError> {
        let Some(any) = keys.first() else { return Ok(Vec::new()) };
        let key = |at: usize| keys.get(at).unwrap_or(any).to_vec();
        read!(&self.database, connection => {
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

    /// Changes counters in one transaction, and answers when each is refilled now.
    ///
    /// # Errors
    /// When the database does not answer; then nothing was changed.
    pub async fn change_counters(
        &self,
        now: i64,
        mut changes: Vec<(CounterKey, CounterChange)>,
    ) -> Result<Vec<(CounterKey, i64)>, StoreError> {
        // In one order on all replicas, so that they never wait for each other in a circle.
        changes.sort_unstable_by_key(|(key, _)| *key);
        let mut changed = Vec::with_capacity(changes.len());
        write!(&self.database, transaction => {
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
            transaction.commit().await?;
        });
        Ok(changed)
    }

    /// Removes counters that were full before this moment, at most `limit`; answers how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_counters(&self, before: i64, limit: u32) -> Result<u64, StoreError> {
        Ok(write!(&self.database, transaction => {
            let removed = sqlx::query(
                "DELETE FROM login_counters WHERE key IN \
                 (SELECT key FROM login_counters WHERE refilled_at < $1 ORDER BY refilled_at LIMIT $2)",
            )
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected();
            transaction.commit().await?;
            removed
        }))
    }
}
