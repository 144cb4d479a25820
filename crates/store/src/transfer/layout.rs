//! Which tables a store has, with which columns: read from the database itself, and limited to the tables that the migrations make,
//! because other programs may have tables in the same database.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _, SqliteConnection, migrate::Migrator,
    sqlite::SqliteConnectOptions,
};

use super::error::TransferError;
use crate::open::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS};

/// The table that every store has one row in.
const REVISION: &str = "revision";
/// What is read of the record of migrations.
const RECORD_COLUMNS: [&str; 3] = ["version", "success", "checksum"];

/// The tables of a store at one version of its schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// The number of the last migration.
    pub version: i64,
    /// In order of their names.
    pub tables: Vec<Table>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its columns, in order.
    pub columns: Vec<Column>,
    /// How many rows it had when it was looked at.
    pub rows: u64,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column holds, in both databases alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnKind {
    /// TEXT.
    Text,
    /// BIGINT or INTEGER.
    Integer,
    /// BLOB or BYTEA.
    Bytes,
}

impl ColumnKind {
    fn of(declared: &str) -> Option<Self> {
        match declared.to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "bigint" | "integer" => Some(Self::Integer),
            "blob" | "bytea" => Some(Self::Bytes),
            _ => None,
        }
    }
}

impl Layout {
    /// Fails for a layout that only a newer version of mcpd knows. `what` has it.
    ///
    /// # Errors
    /// When it is newer.
    pub fn check_known(&self, what: &str) -> Result<(), TransferError> {
        let (found, known) = (self.version, latest());
        if found > known {
            return Err(TransferError::Newer { what: what.to_owned(), found, known });
        }
        Ok(())
    }

    /// How many rows all tables have.
    pub fn rows(&self) -> u64 {
        self.tables.iter().map(|table| table.rows).sum()
    }
}

impl Table {
    /// Its columns as a statement lists them.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|column| quoted(&column.name)).collect::<Vec<_>>().join(", ")
    }

    /// The statement that reads its rows. PostgreSQL's INTEGER is read as BIGINT.
    pub(super) fn select(&self) -> String {
        let expression = |column: &Column| match column.kind {
            ColumnKind::Integer => format!("CAST({} AS BIGINT)", quoted(&column.name)),
            ColumnKind::Text | ColumnKind::Bytes => quoted(&column.name),
        };
        let columns: Vec<_> = self.columns.iter().map(expression).collect();
        format!("SELECT {} FROM {}", columns.join(", "), quoted(&self.name))
    }
}

/// A name in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The version of the latest layout that this program knows.
pub(super) fn latest() -> i64 {
    SQLITE_MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// The names of all tables that the migrations up to this one have made: a later one may have dropped some.
async fn own_tables(version: i64) -> Result<BTreeSet<String>, TransferError> {
    let mut memory = SqliteConnectOptions::new().in_memory(true).connect().await?;
    let migrations = SQLITE_MIGRATIONS.iter().filter(|migration| migration.version <= version).cloned();
    Migrator::with_migrations(migrations.collect()).run_direct(None, &mut memory, false).await?;
    let mut own = memory.table_names().await?;
    // Each database keeps its own record of the migrations.
    own.remove(&*SQLITE_MIGRATIONS.table_name);
    own.retain(|name| !name.starts_with("sqlite_"));
    Ok(own)
}

/// What a database has on record of migrations.
pub(super) enum Record {
    /// None was applied.
    Absent,
    /// They are not those of mcpd.
    Foreign,
    /// Those of mcpd, up to a version.
    Own { version: i64, is_complete: bool },
}

/// What is found out about a database, by statements that differ between the two.
pub(super) trait Catalog {
    /// Whether other programs may have tables in the same database.
    const IS_SHARED: bool;
    /// The names of its tables, those of other programs too.
    async fn table_names(&mut self) -> Result<BTreeSet<String>, TransferError>;
    /// Name and declared type of each column of a table, in order.
    async fn columns(&mut self, table: &str) -> Result<Vec<(String, String)>, TransferError>;
    /// The migrations that were applied.
    async fn record(&mut self) -> Result<Record, TransferError>;
    /// How many rows a table has.
    async fn count(&mut self, table: &str) -> Result<u64, TransferError>;
    /// The current revision.
    async fn revision(&mut self) -> Result<i64, TransferError>;
}

macro_rules! catalog {
    ($connection:ty, $is_shared:literal, $migrations:expr, $names:expr, $columns:expr) => {
        impl Catalog for $connection {
            const IS_SHARED: bool = $is_shared;

            async fn table_names(&mut self) -> Result<BTreeSet<String>, TransferError> {
                Ok(sqlx::query_scalar($names).fetch_all(&mut *self).await?.into_iter().collect())
            }

            async fn columns(&mut self, table: &str) -> Result<Vec<(String, String)>, TransferError> {
                let rows = sqlx::query($columns).bind(table).fetch_all(&mut *self).await?;
                let read = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
                Ok(read.collect::<Result<_, sqlx::Error>>()?)
            }

            async fn record(&mut self) -> Result<Record, TransferError> {
                let table = &*$migrations.table_name;
                if !self.table_names().await?.contains(table) {
                    return Ok(Record::Absent);
                }
                let columns = self.columns(table).await?;
                if !RECORD_COLUMNS.iter().all(|column| columns.iter().any(|(name, _)| name == column)) {
                    return Ok(Record::Foreign);
                }
                let applied = format!("SELECT {} FROM {table}", RECORD_COLUMNS.join(", "));
                let applied: Vec<(i64, bool, Vec<u8>)> =
                    sqlx::query_as(AssertSqlSafe(applied)).fetch_all(&mut *self).await?;
                let Some(version) = applied.iter().map(|(version, ..)| *version).max() else {
                    return Ok(Record::Absent);
                };
                let known = |version: i64| $migrations.iter().find(|known| known.version == version);
                let known = applied.iter().filter_map(|(version, _, sum)| Some((known(*version)?, sum)));
                let mut is_own = known.map(|(known, sum)| *known.checksum == **sum).peekable();
                if is_own.peek().is_none() || !is_own.all(|is_own| is_own) {
                    return Ok(Record::Foreign);
                }
                let is_complete = applied.iter().all(|(_, success, _)| *success);
                Ok(Record::Own { version, is_complete })
            }

            async fn count(&mut self, table: &str) -> Result<u64, TransferError> {
                let count = format!("SELECT COUNT(*) FROM {}", quoted(table));
                let count: i64 = sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(&mut *self).await?;
                Ok(count.unsigned_abs())
            }

            async fn revision(&mut self) -> Result<i64, TransferError> {
                Ok(sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut *self).await?)
            }
        }
    };
}

catalog!(
    SqliteConnection,
    false,
    SQLITE_MIGRATIONS,
    "SELECT name FROM sqlite_master WHERE type = 'table'",
    "SELECT name, type FROM pragma_table_info($1) ORDER BY cid"
);
catalog!(
    PgConnection,
    true,
    POSTGRES_MIGRATIONS,
    "SELECT CAST(table_name AS TEXT) FROM information_schema.tables WHERE table_schema = current_schema()",
    "SELECT CAST(column_name AS TEXT), CAST(data_type AS TEXT) FROM information_schema.columns \
     WHERE table_schema = current_schema() AND table_name = $1 ORDER BY ordinal_position"
);

/// The names of mcpd's tables in a database, by the layout that it has on record; without one, by the latest.
pub(super) async fn tables_there(connection: &mut impl Catalog) -> Result<Vec<String>, TransferError> {
    let version = match connection.record().await? {
        Record::Own { version, .. } => version,
        Record::Absent | Record::Foreign => latest(),
    };
    let own = own_tables(version).await?;
    let there = connection.table_names().await?;
    Ok(there.into_iter().filter(|name| own.contains(name)).collect())
}

/// The layout of a database; `None` where it has none of mcpd's tables. `what` names it in errors.
pub(super) async fn read(connection: &mut impl Catalog, what: &str) -> Result<Option<Layout>, TransferError> {
    let (version, is_complete) = match connection.record().await? {
        Record::Absent => return Ok(None),
        Record::Foreign => {
            let table = SQLITE_MIGRATIONS.table_name.to_string();
            return Err(TransferError::Foreign { what: what.to_owned(), table });
        }
        Record::Own { version, is_complete } => (version, is_complete),
    };
    Layout { version, tables: Vec::new() }.check_known(what)?;
    let bad = |detail: String| TransferError::Layout { what: what.to_owned(), version, detail };
    if !is_complete {
        return Err(bad("an upgrade was interrupted".to_owned()));
    }
    let mut tables = Vec::new();
    for name in tables_there(connection).await? {
        let mut columns = Vec::new();
        for (column, declared) in connection.columns(&name).await? {
            let kind = ColumnKind::of(&declared)
                .ok_or_else(|| bad(format!("column `{column}` of `{name}` is of type {declared}")))?;
            columns.push(Column { name: column, kind });
        }
        let rows = connection.count(&name).await?;
        tables.push(Table { name, columns, rows });
    }
    if !tables.iter().any(|table| table.name == REVISION) {
        return Err(bad(format!("table `{REVISION}` is missing")));
    }
    Ok(Some(Layout { version, tables }))
}

/// Checks that two layouts are the same, except for the order of columns and the numbers of rows.
pub(super) fn compare(expected: &Layout, found: &Layout, what: &str) -> Result<(), TransferError> {
    let bad = |detail| TransferError::Layout { what: what.to_owned(), version: expected.version, detail };
    let names =
        |layout: &Layout| layout.tables.iter().map(|table| table.name.clone()).collect::<BTreeSet<_>>();
    if let Some(table) = names(expected).symmetric_difference(&names(found)).next() {
        return Err(bad(format!("only one of both has table `{table}`")));
    }
    for table in &expected.tables {
        let Some(other) = found.tables.iter().find(|other| other.name == table.name) else { continue };
        let odd = |one: &Table, other: &Table| {
            one.columns.iter().find(|column| !other.columns.contains(column)).cloned()
        };
        if let Some(column) = odd(table, other).or_else(|| odd(other, table)) {
            return Err(bad(format!("column `{}` of `{}` differs", column.name, table.name)));
        }
    }
    Ok(())
}

/// The revision of the store in a database; `None` where none was ever started, so that no row is lost with it. Fails for a database whose
/// tables are another program's.
pub(super) async fn occupation<C: Catalog>(
    connection: &mut C,
    place: &str,
) -> Result<Option<i64>, TransferError> {
    let what = format!("the database {place}");
    let Some(layout) = read(connection, &what).await? else {
        // Whatever it is called: no migration of mcpd has made it.
        let foreign = if C::IS_SHARED {
            tables_there(connection).await?.into_iter().next()
        } else {
            let is_foreign =
                |name: &String| !name.starts_with("sqlite_") && *name != *SQLITE_MIGRATIONS.table_name;
            connection.table_names().await?.into_iter().find(is_foreign)
        };
        return match foreign {
            None => Ok(None),
            Some(table) => Err(TransferError::Foreign { what, table }),
        };
    };
    let has_revision = layout.tables.iter().any(|table| table.name == REVISION && table.rows > 0);
    let revision = if has_revision { connection.revision().await? } else { 0 };
    let has_rows = layout.tables.iter().any(|table| table.name != REVISION && table.rows > 0);
    Ok((revision > 0 || has_rows).then_some(revision))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_layout_has_all_tables_of_its_own() {
        for version in SQLITE_MIGRATIONS.iter().map(|migration| migration.version) {
            let mut store = SqliteConnectOptions::new().in_memory(true).connect().await.unwrap();
            let migrations = SQLITE_MIGRATIONS.iter().filter(|migration| migration.version <= version);
            let migrations = Migrator::with_migrations(migrations.cloned().collect());
            migrations.run_direct(None, &mut store, false).await.unwrap();
            let mut names = store.table_names().await.unwrap();
            names.retain(|name| *name != *SQLITE_MIGRATIONS.table_name && !name.starts_with("sqlite_"));
            let layout = read(&mut store, "the store").await.unwrap().unwrap();
            let found: BTreeSet<String> = layout.tables.into_iter().map(|table| table.name).collect();
            assert_eq!((layout.version, found), (version, names));
        }
    }
}
