//! How much of journals each account has in the store, by the day on which it was handed over. A row is removed at the latest when
//! the audit's retention has passed since then, so the days of that time count.

use jiff::Timestamp;

use crate::{
    database::{Store, write_transaction_of},
    durability::Durability,
    error::StoreError,
};

const SECONDS_PER_DAY: i64 = 24 * 3600;

/// The day of a time, counted from 1970 (UTC).
pub(super) fn day(at: Timestamp) -> i64 {
    at.as_second().div_euclid(SECONDS_PER_DAY)
}

/// Counts what a batch adds, and refuses it where that is too much. Batches of one account take turns from here on.
macro_rules! add_volume {
    ($batch:expr, $bytes:expr, $transaction:ident) => {{
        let batch: &$crate::journal::batch::JournalBatch = $batch;
        let today: i64 = sqlx::query(
            "INSERT INTO journal_days (reporter_id, day, bytes) VALUES ($1, $2, $3) \
             ON CONFLICT (reporter_id, day) DO UPDATE SET bytes = journal_days.bytes + excluded.bytes \
             RETURNING bytes",
        )
        .bind(batch.reported_by_id.as_str())
        .bind($crate::journal::volume::day(batch.now))
        .bind($crate::journal::rows::number($bytes))
        .fetch_one(&mut *$transaction)
        .await?
        .try_get("bytes")?;
        let volume = batch.volume;
        if today.unsigned_abs() > volume.per_day {
            return Err($crate::journal::batch::HandOverError::DayFull(volume.per_day));
        }
        let all: i64 = sqlx::query(
            "SELECT CAST(COALESCE(SUM(bytes), 0) AS BIGINT) AS bytes FROM journal_days WHERE reporter_id = $1",
        )
        .bind(batch.reported_by_id.as_str())
        .fetch_one(&mut *$transaction)
        .await?
        .try_get("bytes")?;
        if all.unsigned_abs() > volume.total {
            return Err($crate::journal::batch::HandOverError::Full(volume.total));
        }
    }};
}

pub(super) use add_volume;

impl Store {
    /// Forgets what was handed over on days that ended before this time: the rows of that time are removed as well.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_journal_days(&self, before: Timestamp) -> Result<u64, StoreError> {
        Ok(write_transaction_of!(&self.database, Durability::Crash, transaction => {
            sqlx::query("DELETE FROM journal_days WHERE day < $1")
                .bind(day(before))
                .execute(&mut *transaction)
                .await?
                .rows_affected()
        }))
    }
}
