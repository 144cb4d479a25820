//! Sums of usage by hour, account, Llm and model. They are kept beside the rows, so that an answer about a month reads few of them,
//! and longer than the rows. A row is marked in the transaction that adds it to the sums: it is counted once, whatever ends when.

use futures::TryStreamExt as _;
use mcpctl_api::Id;
use sqlx::{QueryBuilder, Row as _};

use crate::{
    connection::{Connection, Transaction},
    database::{Database, Store, read_connection, write_transaction_of},
    durability::{Durability, begin_postgres},
    error::StoreError,
};

/// Replicas that count take turns by this lock, so that none waits for rows of another one in the middle. "usage" in ASCII.
const POSTGRES_LOCK: i64 = 0x75_7361_6765;

/// The sums of some rows of usage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageSums {
    /// Requests of callers.
    pub requests: u64,
    /// Times that an Llm was asked in place of another one.
    pub fallbacks: u64,
    /// Times that an Llm failed.
    pub failures: u64,
    /// Input tokens.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Of the input, the tokens that a prompt cache saved.
    pub cached_input_tokens: u64,
    /// Of the input, the tokens that were written to a prompt cache.
    pub cache_write_input_tokens: u64,
    /// Of the output, the tokens spent on reasoning.
    pub reasoning_tokens: u64,
    /// Rows whose tokens are an estimate.
    pub estimated: u64,
    /// Rows with tokens of an unknown price.
    pub unpriced: u64,
    /// The cost of all others, in nano-dollars.
    pub cost_nanos: u64,
}

impl UsageSums {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        let Self {
            requests,
            fallbacks,
            failures,
            input_tokens,
            output_tokens,
            cached_input_tokens,
            cache_write_input_tokens,
            reasoning_tokens,
            estimated,
            unpriced,
            cost_nanos,
        } = self;
        for (sum, more) in [
            (requests, other.requests),
            (fallbacks, other.fallbacks),
            (failures, other.failures),
            (input_tokens, other.input_tokens),
            (output_tokens, other.output_tokens),
            (cached_input_tokens, other.cached_input_tokens),
            (cache_write_input_tokens, other.cache_write_input_tokens),
            (reasoning_tokens, other.reasoning_tokens),
            (estimated, other.estimated),
            (unpriced, other.unpriced),
            (cost_nanos, other.cost_nanos),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// What sums are grouped by, besides the hours of the query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageParts {
    /// Each account.
    pub account: bool,
    /// Each Llm.
    pub llm: bool,
    /// Each model, as providers name it.
    pub model: bool,
    /// Each time of so many hours, counted from 1970.
    pub hours: Option<u32>,
}

/// Selects sums of usage; what is `None` selects all.
#[derive(Debug, Clone, Default)]
pub struct UsageQuery {
    /// From this hour on, in hours since 1970.
    pub since: i64,
    /// Before this hour.
    pub until: i64,
    /// Only of this account.
    pub account: Option<UsageAccount>,
    /// Only of the Llm of this id or name.
    pub llm: Option<String>,
    /// What they are grouped by.
    pub parts: UsageParts,
}

/// The account that usage is asked for.
#[derive(Debug, Clone)]
pub enum UsageAccount {
    /// Of this id, under whichever name.
    Id(Id),
    /// Under this name, e.g. `User alice`: of accounts that are gone, and of rows without an id.
    Named(String),
}

/// Sums of one part. What the query does not group by is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePart {
    /// The account's id; `None` of rows without one.
    pub account: Option<Id>,
    /// Its kind and name at that time.
    pub principal: String,
    /// The Llm's id.
    pub llm_id: String,
    /// Its name at that time.
    pub llm_name: String,
    /// The model.
    pub model: String,
    /// When the part begins, in hours since 1970.
    pub hour: i64,
    /// What was used.
    pub sums: UsageSums,
}

/// The columns that are added up, each from rows of usage.
macro_rules! sums_of_rows {
    () => {
        "COALESCE(SUM(begins), 0), COALESCE(SUM(fallback), 0), \
         COALESCE(SUM(CASE WHEN outcome IN ('ok', 'cancelled') THEN 0 ELSE 1 END), 0), \
         SUM(input_tokens), SUM(output_tokens), SUM(cached_input_tokens), SUM(cache_write_input_tokens), \
         SUM(reasoning_tokens), SUM(estimated), \
         SUM(CASE WHEN cost_nanos IS NULL AND input_tokens + output_tokens > 0 THEN 1 ELSE 0 END), \
         COALESCE(SUM(cost_nanos), 0) "
    };
}

/// Adds rows to the sums, from where they are.
macro_rules! add_rows {
    ($($from:tt)+) => {
        concat!(
            "INSERT INTO usage_hours (hour, account, llm_id, model, principal, llm_name, requests, fallbacks, \
             failures, input_tokens, output_tokens, cached_input_tokens, cache_write_input_tokens, \
             reasoning_tokens, estimated, unpriced, cost_nanos) \
             SELECT at / 3600000000, COALESCE(principal_id, principal), llm_id, model, MAX(principal), MAX(llm_name), ",
            sums_of_rows!(),
            "FROM ", $($from)+, " GROUP BY 1, 2, 3, 4 \
             ON CONFLICT (hour, account, llm_id, model) DO UPDATE SET \
             principal = excluded.principal, llm_name = excluded.llm_name, \
             requests = usage_hours.requests + excluded.requests, \
             fallbacks = usage_hours.fallbacks + excluded.fallbacks, \
             failures = usage_hours.failures + excluded.failures, \
             input_tokens = usage_hours.input_tokens + excluded.input_tokens, \
             output_tokens = usage_hours.output_tokens + excluded.output_tokens, \
             cached_input_tokens = usage_hours.cached_input_tokens + excluded.cached_input_tokens, \
             cache_write_input_tokens = usage_hours.cache_write_input_tokens + excluded.cache_write_input_tokens, \
             reasoning_tokens = usage_hours.reasoning_tokens + excluded.reasoning_tokens, \
             estimated = usage_hours.estimated + excluded.estimated, \
             unpriced = usage_hours.unpriced + excluded.unpriced, \
             cost_nanos = usage_hours.cost_nanos + excluded.cost_nanos"
        )
    };
}

/// The rows that come next. No other transaction writes meanwhile, so that both statements mean the same ones.
macro_rules! next_rows_of_sqlite {
    () => {
        "rowid IN (SELECT rowid FROM usage WHERE counted = 0 ORDER BY rowid LIMIT $1)"
    };
}

const ADD_SQLITE: &str = add_rows!("usage WHERE ", next_rows_of_sqlite!());
const MARK_SQLITE: &str = concat!("UPDATE usage SET counted = 1 WHERE ", next_rows_of_sqlite!());
/// One statement, because a second one would see rows that were committed since the first.
const COUNT_POSTGRES: &str = concat!(
    "WITH counted_rows AS (UPDATE usage SET counted = 1 WHERE id IN \
     (SELECT id FROM usage WHERE counted = 0 LIMIT $1) RETURNING *), \
     added AS (",
    add_rows!("counted_rows"),
    ") SELECT COUNT(*) FROM counted_rows"
);

/// The text of a query of sums, for either database.
macro_rules! push_query {
    ($text:ident, $query:expr) => {
        let UsageQuery { since, until, account, llm, parts } = $query;
        let mut grouped = Vec::new();
        for (kept, key, name) in [
            (parts.account, "account", "principal"),
            (parts.llm, "llm_id", "llm_name"),
            (parts.model, "model", ""),
        ] {
            if kept {
                $text.push(key).push(" AS ").push(key).push(", ");
                grouped.push(key);
            } else {
                $text.push("'' AS ").push(key).push(", ");
            }
            match (name, kept) {
                ("", _) => {}
                (name, true) => {
                    // An account or Llm that was renamed has several.
                    $text.push("MAX(").push(name).push(") AS ").push(name).push(", ");
                }
                (name, false) => {
                    $text.push("'' AS ").push(name).push(", ");
                }
            }
        }
        match parts.hours.filter(|hours| *hours > 0) {
            Some(hours) => {
                let hours = i64::from(hours);
                $text.push("hour / ").push(hours).push(" * ").push(hours).push(" AS part");
                grouped.push("part");
            }
            None => {
                $text.push("CAST(0 AS BIGINT) AS part");
            }
        }
        for column in SUMS {
            $text.push(", CAST(COALESCE(SUM(").push(column).push("), 0) AS BIGINT) AS ").push(column);
        }
        $text.push(" FROM usage_hours WHERE hour >= ").push_bind(*since);
        $text.push(" AND hour < ").push_bind(*until);
        match account {
            None => {}
            Some(UsageAccount::Id(id)) => {
                $text.push(" AND account = ").push_bind(id.to_string());
            }
            Some(UsageAccount::Named(name)) => {
                $text.push(" AND principal = ").push_bind(name.clone());
            }
        }
        if let Some(llm) = llm {
            $text.push(" AND (llm_id = ").push_bind(llm.clone());
            $text.push(" OR llm_name = ").push_bind(llm.clone()).push(")");
        }
        for (at, key) in grouped.into_iter().enumerate() {
            $text.push(if at == 0 { " GROUP BY " } else { ", " }).push(key);
        }
    };
}

/// The columns of sums.
const SUMS: [&str; 11] = [
    "requests",
    "fallbacks",
    "failures",
    "input_tokens",
    "output_tokens",
    "cached_input_tokens",
    "cache_write_input_tokens",
    "reasoning_tokens",
    "estimated",
    "unpriced",
    "cost_nanos",
];

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

    /// Reads the sums of usage part by part, in no order. `take` returns whether it takes more.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn usage_sums(
        &self,
        query: &UsageQuery,
        mut take: impl FnMut(UsagePart) -> bool + Send,
    ) -> Result<(), StoreError> {
        read_connection!(&self.database, connection => {
            let mut text = QueryBuilder::new("SELECT ");
            push_query!(text, query);
            let built = text.build();
            let mut rows = built.fetch(&mut *connection);
            while let Some(row) = rows.try_next().await? {
                let number = |column: &str| -> Result<u64, sqlx::Error> {
                    Ok(row.try_get::<i64, _>(column)?.unsigned_abs())
                };
                let account: String = row.try_get("account")?;
                let part = UsagePart {
                    account: account.parse().ok(),
                    principal: row.try_get("principal")?,
                    llm_id: row.try_get("llm_id")?,
                    llm_name: row.try_get("llm_name")?,
                    model: row.try_get("model")?,
                    hour: row.try_get("part")?,
                    sums: UsageSums {
                        requests: number("requests")?,
                        fallbacks: number("fallbacks")?,
                        failures: number("failures")?,
                        input_tokens: number("input_tokens")?,
                        output_tokens: number("output_tokens")?,
                        cached_input_tokens: number("cached_input_tokens")?,
                        cache_write_input_tokens: number("cache_write_input_tokens")?,
                        reasoning_tokens: number("reasoning_tokens")?,
                        estimated: number("estimated")?,
                        unpriced: number("unpriced")?,
                        cost_nanos: number("cost_nanos")?,
                    },
                };
                if !take(part) {
                    // The connection, which has not read to the end, is closed.
                    return Ok(());
                }
            }
        });
        Ok(())
    }

    /// Deletes at most `limit` sums of hours before this one, in hours since 1970, and returns how many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn prune_usage_sums(&self, before: i64, limit: u32) -> Result<u64, StoreError> {
        Ok(write_transaction_of!(&self.database, Durability::Crash, transaction => {
            sqlx::query(
                "DELETE FROM usage_hours WHERE (hour, account, llm_id, model) IN \
                 (SELECT hour, account, llm_id, model FROM usage_hours WHERE hour < $1 ORDER BY hour LIMIT $2)",
            )
            .bind(before)
            .bind(i64::from(limit))
            .execute(&mut *transaction)
            .await?
            .rows_affected()
        }))
    }
}
