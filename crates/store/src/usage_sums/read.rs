//! Answers questions from the sums: a time is divided into the longest spans that fit, and each span is read from the sums of its
//! length.

use futures::TryStreamExt as _;
use sqlx::{QueryBuilder, Row as _};

use super::{SPANS, UsageAccount, UsagePart, UsageQuery, UsageSums, UsageTime};
use crate::{
    connection::{Connection, Transaction},
    database::{Database, Store},
    error::StoreError,
    sqlite::Interrupt,
};

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

/// A stretch of time that is read from the sums of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    /// The length of its sums, in hours.
    span: i64,
    since: i64,
    until: i64,
}

impl UsageQuery {
    /// The stretches of the query's time, in order.
    fn stretches(&self) -> Vec<Stretch> {
        // Sums of more than a part's time cannot be divided again.
        let longest = match self.parts.time {
            None => i64::MAX,
            Some(UsageTime::Day { offset: 0 }) => 24,
            Some(UsageTime::Day { .. } | UsageTime::Hour) => 1,
        };
        // Of all accounts there are few sums of a day, and none of 30.
        let longest = if self.is_of_all() { longest.min(24) } else { longest };
        let mut stretches = Vec::new();
        let spans: Vec<i64> = SPANS.into_iter().filter(|span| *span <= longest).collect();
        divide(self.since, self.until, &spans, &mut stretches);
        stretches
    }

    /// Whether sums of all accounts answer it.
    const fn is_of_all(&self) -> bool {
        !self.parts.account && self.account.is_none()
    }
}

/// Divides a time into whole spans of the first length and, before and after them, of the others.
fn divide(since: i64, until: i64, spans: &[i64], stretches: &mut Vec<Stretch>) {
    let Some((span, shorter)) = spans.split_first().filter(|_| since < until) else { return };
    let (span, last) = (*span, until.div_euclid(*span));
    let first = since.div_euclid(span) + i64::from(since.rem_euclid(span) != 0);
    if first >= last {
        return divide(since, until, shorter, stretches);
    }
    let (from, to) = (first * span, last * span);
    divide(since, from, shorter, stretches);
    stretches.push(Stretch { span, since: from, until: to });
    divide(to, until, shorter, stretches);
}

/// The text of a query of sums of one stretch, for either database.
macro_rules! push_query {
    ($text:ident, $query:expr, $stretch:expr) => {
        let UsageQuery { account, llm, parts, .. } = $query;
        let Stretch { span, since, until } = $stretch;
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
        match parts.time {
            Some(UsageTime::Hour) => {
                $text.push("hour AS part");
            }
            Some(UsageTime::Day { offset }) => {
                $text.push("(hour * 3600 + ").push(i64::from(offset)).push(") / 86400 AS part");
            }
            None => {
                $text.push("CAST(0 AS BIGINT) AS part");
            }
        }
        if parts.time.is_some() {
            grouped.push("part");
        }
        for column in SUMS {
            $text.push(", CAST(COALESCE(SUM(").push(column).push("), 0) AS BIGINT) AS ").push(column);
        }
        $text.push(" FROM usage_sums WHERE span = ").push(span);
        // No sum of all has an account. Named beside one, `of_all` leads SQLite to the sums of every account.
        if !matches!(account, Some(UsageAccount::Id(_))) {
            $text.push(" AND of_all = ").push(i64::from($query.is_of_all()));
        }
        $text.push(" AND hour >= ").push_bind(since);
        $text.push(" AND hour < ").push_bind(until);
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

/// Reads all stretches in a transaction of either database, until `take` wants no more.
macro_rules! read_stretches {
    ($transaction:ident, $query:ident, $take:ident) => {
        for stretch in $query.stretches() {
            let mut text = QueryBuilder::new("SELECT ");
            push_query!(text, $query, stretch);
            let built = text.build();
            let mut rows = built.fetch(&mut *$transaction);
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
                    time: row.try_get("part")?,
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
                if !$take(part) {
                    // The connection, which has not read to the end, is closed.
                    return Ok(());
                }
            }
        }
    };
}

impl Store {
    /// Reads the sums of usage in one snapshot, in no order; a part may come more than once, each time with other sums. `take` returns
    /// whether it takes more. A caller that no longer waits ends the query.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn usage_sums(
        &self,
        query: &UsageQuery,
        mut take: impl FnMut(UsagePart) -> bool + Send,
    ) -> Result<(), StoreError> {
        match &self.database {
            Database::Sqlite(sqlite) => {
                let mut connection = sqlite.reader().await?;
                let interrupt = Interrupt::of(&mut connection).await?;
                let mut transaction = Transaction::<sqlx::Sqlite>::begin(connection, "BEGIN").await?;
                read_stretches!(transaction, query, take);
                interrupt.remove(&mut transaction).await?;
                transaction.rollback().await?;
            }
            Database::Postgres(pool) => {
                let connection = Connection::acquire(pool).await?;
                let statement = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                let mut transaction = Transaction::<sqlx::Postgres>::begin(connection, statement).await?;
                read_stretches!(transaction, query, take);
                transaction.rollback().await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::UsageParts, *};

    fn query(since: i64, until: i64, time: Option<UsageTime>, account: bool) -> UsageQuery {
        let parts = UsageParts { time, account, ..UsageParts::default() };
        UsageQuery { since, until, parts, ..UsageQuery::default() }
    }

    #[test]
    fn time_is_read_from_the_longest_sums_that_fit() {
        let spans = |query: UsageQuery| {
            let stretches = query.stretches();
            stretches.iter().map(|one| (one.span, one.since, one.until)).collect::<Vec<_>>()
        };
        // From the second hour of a day to the third hour of another one.
        let year = spans(query(721, 10_851, None, true));
        assert_eq!(
            year,
            [(1, 721, 744), (24, 744, 1440), (720, 1440, 10_800), (24, 10_800, 10_848), (1, 10_848, 10_851)]
        );
        let [day, hour] = [UsageTime::Day { offset: 0 }, UsageTime::Hour];
        assert_eq!(spans(query(720, 1440, Some(day), true)), [(24, 720, 1440)]);
        assert_eq!(spans(query(720, 1440, None, false)), [(24, 720, 1440)], "of all accounts");
        assert_eq!(spans(query(720, 1440, Some(hour), true)), [(1, 720, 1440)]);
        let elsewhere = UsageTime::Day { offset: 3600 };
        assert_eq!(spans(query(720, 1440, Some(elsewhere), true)), [(1, 720, 1440)]);
        assert_eq!(spans(query(721, 722, None, true)), [(1, 721, 722)]);
        assert_eq!(spans(query(5, 5, None, true)), []);
    }

    proptest! {
        #[test]
        fn stretches_have_every_hour_once(since in -3000_i64..3000, length in 0_i64..3000, account: bool) {
            let query = query(since, since + length, None, account);
            let mut at = since;
            for Stretch { span, since, until } in query.stretches() {
                prop_assert_eq!((since, since % span, until % span), (at, 0, 0));
                prop_assert!(until > since);
                at = until;
            }
            prop_assert_eq!(at, since + length);
        }
    }
}
