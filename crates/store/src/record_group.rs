//! Inserts the rows of one group of requests in one transaction. With SQLite a group is one trip to its thread, by one of few texts,
//! which its connection keeps prepared.

use sqlx::{
    Arguments as _, AssertSqlSafe, Postgres, QueryBuilder, Sqlite, query::Query, sqlite::SqliteArguments,
};

use crate::{
    connection::{Connection, Transaction},
    database::{Database, Store},
    durability::{Durability, begin_postgres},
    error::StoreError,
    rows::{AuditRow, UsageRow, audit_columns, audit_values, usage_columns, usage_values},
};

/// Rows of either table that one statement inserts.
pub(crate) const MAX_ROWS: usize = 64;

/// Values of a row of either table.
const AUDIT_VALUES: usize = 13;
const USAGE_VALUES: usize = 24;

/// Rows that are stored together.
#[derive(Default)]
pub(crate) struct RecordGroup {
    pub(crate) audit: Vec<AuditRow>,
    pub(crate) usage: Vec<UsageRow>,
}

impl Store {
    pub(crate) async fn insert(&self, durability: Durability, group: RecordGroup) -> Result<(), StoreError> {
        let mut parts = group.parts();
        let Some(last) = parts.pop() else { return Ok(()) };
        match &self.database {
            Database::Sqlite(sqlite) => {
                let mut connection = sqlite.writer(durability).await?;
                let bounds = Bounds { begins: parts.is_empty(), commits: true };
                for (at, part) in parts.into_iter().enumerate() {
                    let bounds = Bounds { begins: at == 0, commits: false };
                    part.for_sqlite(bounds).execute(&mut *connection).await?;
                }
                last.for_sqlite(bounds).execute(&mut *connection).await?;
                connection.release();
                sqlite.note_write();
            }
            Database::Postgres(pool) => {
                let connection = Connection::acquire(pool).await?;
                let mut transaction =
                    Transaction::<Postgres>::begin(connection, begin_postgres(durability)).await?;
                for part in parts.into_iter().chain([last]) {
                    for mut query in part.for_postgres() {
                        query.build().execute(&mut *transaction).await?;
                    }
                }
                transaction.commit().await?;
            }
        }
        Ok(())
    }
}

/// Which ends of the transaction a text has.
#[derive(Clone, Copy)]
struct Bounds {
    begins: bool,
    commits: bool,
}

impl RecordGroup {
    /// The rows in parts that one text can insert.
    fn parts(self) -> Vec<Self> {
        let (mut audit, mut usage) = (self.audit, self.usage);
        let mut parts = Vec::new();
        while !(audit.is_empty() && usage.is_empty()) {
            let (audit, usage) = (take_first(&mut audit, MAX_ROWS), take_first(&mut usage, MAX_ROWS));
            parts.push(Self { audit, usage });
        }
        parts
    }

    /// One text with the insertion of all rows. Each table has as many places for rows as the next power of two: so there are few
    /// texts, and a place without a row has no values and inserts nothing.
    fn for_sqlite(self, Bounds { begins, commits }: Bounds) -> Query<'static, Sqlite, SqliteArguments> {
        let Self { audit, usage } = self;
        let [audit_places, usage_places] = [audit.len(), usage.len()].map(places_for);
        let values = audit_places * AUDIT_VALUES + usage_places * USAGE_VALUES;
        let mut text = String::with_capacity(1024 + 2 * values);
        // One statement is a transaction by itself.
        let is_alone = begins && commits && (audit.is_empty() || usage.is_empty());
        if begins && !is_alone {
            text.push_str("BEGIN IMMEDIATE; ");
        }
        push_insert(&mut text, audit_columns!(), AUDIT_VALUES, audit_places);
        push_insert(&mut text, usage_columns!(), USAGE_VALUES, usage_places);
        if commits && !is_alone {
            text.push_str("COMMIT");
        }
        let mut arguments = SqliteArguments::default();
        arguments.reserve(values, 0);
        let mut query = sqlx::query_with(AssertSqlSafe(text), arguments);
        let empty_places = audit_places - audit.len();
        for row in audit {
            query = audit_values!(row, query, bind);
        }
        for _ in 0..empty_places * AUDIT_VALUES {
            query = query.bind(None::<i64>);
        }
        // Those of the last places may be left out.
        for row in usage {
            query = usage_values!(row, query, bind);
        }
        query
    }

    fn for_postgres(self) -> Vec<QueryBuilder<Postgres>> {
        let Self { mut audit, mut usage } = self;
        let mut queries = Vec::new();
        while let Some(rows) = power_of_two(&mut audit) {
            let mut query = QueryBuilder::new(concat!("INSERT ", audit_columns!()));
            query.push_values(rows, |mut values, row| {
                audit_values!(row, values, push_bind);
            });
            queries.push(query);
        }
        while let Some(rows) = power_of_two(&mut usage) {
            let mut query = QueryBuilder::new(concat!("INSERT ", usage_columns!()));
            query.push_values(rows, |mut values, row| {
                usage_values!(row, values, push_bind);
            });
            queries.push(query);
        }
        queries
    }
}

/// How many places a text has for so many rows.
const fn places_for(rows: usize) -> usize {
    if rows == 0 { 0 } else { rows.next_power_of_two() }
}

fn push_insert(text: &mut String, into: &str, values: usize, places: usize) {
    let Some(further) = places.checked_sub(1) else { return };
    let row = format!("({}?)", "?,".repeat(values - 1));
    // The rest of the transaction is undone too, so no journal of the statement alone is needed.
    text.push_str("INSERT OR ROLLBACK ");
    text.push_str(into);
    text.push_str("SELECT * FROM (VALUES ");
    text.push_str(&row);
    for _ in 0..further {
        text.push(',');
        text.push_str(&row);
    }
    text.push_str(") WHERE column1 IS NOT NULL; ");
}

/// Takes at most so many of the first rows.
fn take_first<T>(rows: &mut Vec<T>, count: usize) -> Vec<T> {
    if rows.len() <= count {
        return std::mem::take(rows);
    }
    let rest = rows.split_off(count);
    std::mem::replace(rows, rest)
}

/// Takes the largest power of two of the first rows, so that few different statements are prepared.
fn power_of_two<T>(rows: &mut Vec<T>) -> Option<Vec<T>> {
    let count = 1 << rows.len().checked_ilog2()?;
    Some(take_first(rows, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_inserted_in_few_sizes() {
        let sizes = |rows: usize| {
            let mut rows = vec![0; rows];
            std::iter::from_fn(|| power_of_two(&mut rows)).map(|rows| rows.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(1), [1]);
        assert_eq!(sizes(7), [4, 2, 1]);
        assert_eq!([0, 1, 2, 3, 5, 33, MAX_ROWS].map(places_for), [0, 1, 2, 4, 8, 64, MAX_ROWS]);
    }
}
