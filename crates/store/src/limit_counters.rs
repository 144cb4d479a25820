//! Counters of Limits that replicas share. The store keeps the state of a counter as a text and locks it while it changes; the
//! caller decides what a counter counts.

use std::collections::BTreeMap;

use mcpctl_api::Id;
use sqlx::Row as _;

use crate::{
    database::{Database, Store, read_connection, write_transaction_of},
    durability::Durability,
    error::StoreError,
};

/// What a counter belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitKey {
    /// The Limit.
    pub limit: Id,
    /// The user or service account; `None` if all share the counter.
    pub subject: Option<Id>,
    /// What is counted, and over which time.
    pub counts: String,
}

/// The state of a counter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitCounter {
    /// As the caller wrote it; empty for a new counter.
    pub state: String,
    /// When it may be deleted, in milliseconds since 1970.
    pub expires_at: i64,
}

/// Without `FOR UPDATE`: a write transaction of SQLite is the only one.
const SELECT_SQLITE: &str =
    "SELECT state, expires_at FROM limit_counters WHERE limit_id = $1 AND subject_id = $2 AND counts = $3";
const SELECT_POSTGRES: &str = "SELECT state, expires_at FROM limit_counters \
     WHERE limit_id = $1 AND subject_id = $2 AND counts = $3 FOR UPDATE";

fn subject(key: &LimitKey) -> &str {
    key.subject.as_ref().map_or("", Id::as_str)
}

impl Store {
    /// Locks counters, lets `change` change them, and stores those that it changed, in one transaction. Counters that do not
    /// exist begin with an empty state.
    ///
    /// # Errors
    /// When the database does not answer, or `change` fails; then nothing was changed.
    pub async fn change_limit_counters<T, E: From<StoreError>>(
        &self,
        keys: impl IntoIterator<Item = LimitKey>,
        change: impl FnOnce(&mut BTreeMap<LimitKey, LimitCounter>) -> Result<T, E>,
    ) -> Result<T, E> {
        // Ordered, so that replicas that lock the same rows never deadlock.
        let mut counters: BTreeMap<LimitKey, LimitCounter> =
            keys.into_iter().map(|key| (key, LimitCounter::default())).collect();
        let mut decided = None;
        self.change_locked(&mut counters, |counters| match change(counters) {
            Ok(value) => {
                decided = Some(Ok(value));
                true
            }
            Err(error) => {
                decided = Some(Err(error));
                false
            }
        })
        .await?;
        decided.unwrap_or_else(|| Err(StoreError::Ended("transaction").into()))
    }

    async fn change_locked(
        &self,
        counters: &mut BTreeMap<LimitKey, LimitCounter>,
        change: impl FnOnce(&mut BTreeMap<LimitKey, LimitCounter>) -> bool,
    ) -> Result<(), StoreError> {
        let postgres = matches!(self.database, Database::Postgres(_));
        let select = if postgres { SELECT_POSTGRES } else { SELECT_SQLITE };
        write_transaction_of!(&self.database, Durability::Crash, transaction => {
            for (key, counter) in counters.iter_mut() {
                let find = || {
                    sqlx::query(select).bind(key.limit.as_str()).bind(subject(key)).bind(key.counts.as_str())
                };
                let mut row = find().fetch_optional(&mut *transaction).await?;
                if row.is_none() && postgres {
                    // A row that does not exist cannot be locked.
                    sqlx::query(
                        "INSERT INTO limit_counters (limit_id, subject_id, counts, state, expires_at) \
                         VALUES ($1, $2, $3, '', 0) ON CONFLICT (limit_id, subject_id, counts) DO NOTHING",
                    )
                    .bind(key.limit.as_str())
                    .bind(subject(key))
                    .bind(key.counts.as_str())
                    .execute(&mut *transaction)
                    .await?;
                    row = find().fetch_optional(&mut *transaction).await?;
                }
                if let Some(row) = row {
                    *counter =
                        LimitCounter { state: row.try_get("state")?, expires_at: row.try_get("expires_at")? };
                }
            }
            let before = counters.clone();
            if change(counters) {
                for (key, counter) in counters.iter().filter(|(key, counter)| before.get(*key) != Some(*counter)) {
                    sqlx::query(
                        "INSERT INTO limit_counters (limit_id, subject_id, counts, state, expires_at) \
                         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (limit_id, subject_id, counts) \
                         DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at",
                    )
                    .bind(key.limit.as_str())
                    .bind(subject(key))
                    .bind(key.counts.as_str())
                    .bind(counter.state.as_str())
                    .bind(counter.expires_at)
                    .execute(&mut *transaction)
                    .await?;
                }
            }
        });
        Ok(())
    }

    /// At most `max` counters of a Limit that have not expired, ordered by subject.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn limit_counters(
        &self,
        limit: &Id,
        now: i64,
        max: u32,
    ) -> Result<Vec<(LimitKey, LimitCounter)>, StoreError> {
        read_connection!(&self.database, connection => {
            let rows = sqlx::query(
                "SELECT subject_id, counts, state, expires_at FROM limit_counters \
                 WHERE limit_id = $1 AND expires_at > $2 ORDER BY subject_id, counts LIMIT $3",
            )
            .bind(limit.as_str())
            .bind(now)
            .bind(i64::from(max))
            .fetch_all(&mut *connection)
            .await?;
            rows.iter()
                .map(|row| {
                    let subject: String = row.try_get("subject_id")?;
                    let subject = match subject.as_str() {
                        "" => None,
                        id => Some(id.parse().map_err(|error| StoreError::Unreadable {
                            kind: "limit counter".to_owned(),
                            id: limit.to_string(),
                            reason: format!("{error}"),
                        })?),
                    };
                    let key = LimitKey { limit: limit.clone(), subject, counts: row.try_get("counts")? };
                    let counter =
                        LimitCounter { state: row.try_get("state")?, expires_at: row.try_get("expires_at")? };
                    Ok((key, counter))
                })
                .collect()
        })
    }

    /// Deletes at most `limit` counters that expired before this time, in milliseconds since 1970, and returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_limit_counters(&self, before: i64, limit: u32) -> Result<u64, StoreError> {
        Ok(write_transaction_of!(&self.database, Durability::Crash, transaction => {
            sqlx::query(
                "DELETE FROM limit_counters WHERE (limit_id, subject_id, counts) IN \
                 (SELECT limit_id, subject_id, counts FROM limit_counters WHERE expires_at < $1 \
                  ORDER BY expires_at LIMIT $2) AND expires_at < $1",
            )
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected()
        }))
    }
}
