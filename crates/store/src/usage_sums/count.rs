//! Adds rows of usage to the sums, and removes old sums. A row is marked in the transaction that adds it to the sums of every length: it is
//! counted once, whatever ends when.

use crate::{
    connection::{Connection, Transaction},
    database::{Database, Store, write_transaction_of},
    durability::{Durability, begin_postgres},
    error::StoreError,
};

use super::LONGEST_SPAN;

/// Replicas that count take turns by this lock, so that none waits for rows of another one in the middle. "usage" in ASCII.
const POSTGRES_LOCK: i64 = 0x75_7361_6765;

/// The sums that are kept: their length in hours, and whether they are of all accounts. Of all, 30 days are few days.
macro_rules! kept_sums {
    () => {
        "kept (span, of_all) AS (VALUES (1, 0), (24, 0), (720, 0), (1, 1), (24, 1))"
    };
}

/// Adds rows to the sums, from where they are.
macro_rules! add_rows {
    ($($from:tt)+) => {
        concat!(
            "INSERT INTO usage_sums (span, of_all, hour, account, llm_id, model, principal, llm_name, requests, \
             fallbacks, failures, input_tokens, output_tokens, cached_input_tokens, cache_write_input_tokens, \
             reasoning_tokens, estimated, unpriced, cost_nanos) \
             SELECT span, of_all, at / 3600000000 / span * span, \
             CASE of_all WHEN 1 THEN '' ELSE COALESCE(principal_id, principal) END, llm_id, model, \
             MAX(CASE of_all WHEN 1 THEN '' ELSE principal END), MAX(llm_name), SUM(begins), SUM(fallback), \
             SUM(CASE WHEN outcome IN ('ok', 'cancelled') THEN 0 ELSE 1 END), \
             SUM(input_tokens), SUM(output_tokens), SUM(cached_input_tokens), SUM(cache_write_input_tokens), \
             SUM(reasoning_tokens), SUM(estimated), \
             SUM(CASE WHEN cost_nanos IS NULL AND input_tokens + output_tokens > 0 THEN 1 ELSE 0 END), \
             COALESCE(SUM(cost_nanos), 0) FROM ", $($from)+, " GROUP BY 1, 2, 3, 4, 5, 6 \
             ON CONFLICT (span, of_all, hour, account, llm_id, model) DO UPDATE SET \
             principal = excluded.principal, llm_name = excluded.llm_name, \
             requests = usage_sums.requests + excluded.requests, \
             fallbacks = usage_sums.fallbacks + excluded.fallbacks, \
             failures = usage_sums.failures + excluded.failures, \
             input_tokens = usage_sums.input_tokens + excluded.input_tokens, \
             output_tokens = usage_sums.output_tokens + excluded.output_tokens, \
             cached_input_tokens = usage_sums.cached_input_tokens + excluded.cached_input_tokens, \
             cache_write_input_tokens = usage_sums.cache_write_input_tokens + excluded.cache_write_input_tokens, \
             reasoning_tokens = usage_sums.reasoning_tokens + excluded.reasoning_tokens, \
             estimated = usage_sums.estimated + excluded.estimated, \
             unpriced = usage_sums.unpriced + excluded.unpriced, \
             cost_nanos = usage_sums.cost_nanos + excluded.cost_nanos"
        )
    };
}

/// The rows that come next. No other transaction writes meanwhile, so that both statements mean the same ones.
macro_rules! next_rows_of_sqlite {
    () => {
        "rowid IN (SELECT rowid FROM usage WHERE counted = 0 ORDER BY rowid LIMIT $1)"
    };
}

const ADD_SQLITE: &str =
    concat!("WITH ", kept_sums!(), " ", add_rows!("usage CROSS JOIN kept WHERE ", next_rows_of_sqlite!()));
const MARK_SQLITE: &str = concat!("UPDATE usage SET counted = 1 WHERE ", next_rows_of_sqlite!());
/// One statement, because a second one would see rows that were committed since the first.
const COUNT_POSTGRES: &str = concat!(
    "WITH ",
    kept_sums!(),
    ", counted_rows AS (UPDATE usage SET counted = 1 WHERE id IN \
     (SELECT id FROM usage WHERE counted = 0 LIMIT $1) RETURNING *), \
     added AS (",
    add_rows!("counted_rows CROSS JOIN kept"),
    ") SELECT COUNT(*) FROM counted_rows"
);

impl Store {
    /// Adds at most `limit` rows of usage to the sums, and returns how many it added.
    ///
    /// # Errors
    /// When the database does not answer; then none was added.
    pub async fn count_usage(&self, limit: u32) -> Result<u64, StoreError> {
        match &self.database {
            Database::Sqlite(sqlite) => {
                // Most of the time there is nothing, and no writer has to wait for that.
                let mut connection = sqlite.reader().await?;
                let waiting = sqlx::query("SELECT 1 FROM usage WHERE counted = 0 LIMIT 1")
                    .fetch_optional(&mut *connection)
                    .await?;
                connection.release();
                if waiting.is_none() {
                    return Ok(0);
                }
                let connection = sqlite.writer(Durability::Crash).await?;
                let mut transaction =
                    Transaction::<sqlx::Sqlite>::begin(connection, "BEGIN IMMEDIATE").await?;
                sqlx::query(ADD_SQLITE).bind(i64::from(limit)).execute(&mut *transaction).await?;
                let marked =
                    sqlx::query(MARK_SQLITE).bind(i64::from(limit)).execute(&mut *transaction).await?;
                transaction.commit().await?;
                sqlite.note_write();
                Ok(marked.rows_affected())
            }
            Database::Postgres(pool) => {
                let connection = Connection::acquire(pool).await?;
                let statement = begin_postgres(Durability::Crash);
                let mut transaction = Transaction::<sqlx::Postgres>::begin(connection, statement).await?;
                sqlx::query("SELECT pg_advisory_xact_lock($1)")
                    .bind(POSTGRES_LOCK)
                    .execute(&mut *transaction)
                    .await?;
                let added: i64 = sqlx::query_scalar(COUNT_POSTGRES)
                    .bind(i64::from(limit))
                    .fetch_one(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                Ok(added.unsigned_abs())
            }
        }
    }

    /// Deletes at most `limit` sums of before this hour, in hours since 1970, and returns how many. They go in spans of 30 days: the
    /// span that the hour is in stays.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_usage_sums(&self, before: i64, limit: u32) -> Result<u64, StoreError> {
        let before = before.div_euclid(LONGEST_SPAN).saturating_mul(LONGEST_SPAN);
        Ok(write_transaction_of!(&self.database, Durability::Crash, transaction => {
            sqlx::query(
                "DELETE FROM usage_sums WHERE (span, of_all, hour, account, llm_id, model) IN \
                 (SELECT span, of_all, hour, account, llm_id, model FROM usage_sums \
                 WHERE span IN (1, 24, 720) AND of_all IN (0, 1) AND hour < $1 LIMIT $2)",
            )
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected()
        }))
    }
}
