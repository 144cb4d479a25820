//! Writes a store as a whole, into an empty database or in place of what is there. On PostgreSQL everything is one transaction. On
//! SQLite a draft is written beside the file and renamed in the end. A crash at any moment leaves what was there before.

use jiff::Timestamp;
use mcpctl_api::{Kind, Revision};
use mcpctl_secret::envelope::Keyring;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, QueryBuilder, Sqlite, migrate::Migrator};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    error::TransferError,
    file::{DatabaseDraft, Occupied},
    layout::{self, Layout, Table, quoted},
    link::{self, Link, on_link},
    rows::{Batch, Tally, Values},
    source::read_tables,
};
use crate::{
    database::Location,
    open::{POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS, describe, one_line},
    rows::{AuditRow, Decision, insert_audit},
};

/// Maximum of values in a statement of SQLite, which is SQLITE_MAX_VARIABLE_NUMBER by default.
const MAX_VALUES: usize = 32_000;
/// How far the revision of a restored store is ahead of the backup's for each millisecond since then: further than a store gets in
/// that time. So no client holds a revision that means something else now, neither of the lost store nor of an earlier restore.
const REVISIONS_PER_MILLISECOND: i64 = 10;
/// What it is ahead besides, where clocks differ: those of a day.
const MIN_REVISIONS_AHEAD: i64 = REVISIONS_PER_MILLISECOND * 24 * 60 * 60 * 1000;

/// What is different in a restored store.
#[derive(Debug, Clone, Copy)]
pub struct Restoration {
    /// When the backup was made.
    pub created_at: Timestamp,
    /// The present time.
    pub now: Timestamp,
    /// Whether tokens and sessions are restored: some may have been revoked since the backup.
    pub with_tokens: bool,
}

/// A database that a store is written into.
pub struct Target {
    link: Link,
    place: String,
    draft: Option<DatabaseDraft>,
    /// The revision of the store that is replaced.
    replaced: i64,
}

impl Target {
    /// Begins to write. No mcpd may use the database.
    ///
    /// # Errors
    /// When an mcpd uses it, or it is not empty and may not be replaced.
    pub async fn begin(location: &Location, occupied: Occupied) -> Result<Self, TransferError> {
        let place = describe(location);
        match location {
            Location::Sqlite(path) => {
                let (draft, replaced) = DatabaseDraft::begin(path, occupied).await?;
                let mut connection = draft.connect().await?;
                sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                Ok(Self { link: Link::Sqlite(connection), place, draft: Some(draft), replaced })
            }
            Location::Postgres(url) => {
                let unavailable = |reason: sqlx::Error| TransferError::Unavailable {
                    place: place.clone(),
                    reason: one_line(&reason.to_string()),
                };
                let mut connection =
                    link::postgres(url).map_err(unavailable)?.connect().await.map_err(unavailable)?;
                sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                link::reserve(&mut connection, &place).await?;
                let replaced = layout::occupation(&mut connection, &place).await?;
                if replaced.is_some() && occupied == Occupied::Refuse {
                    return Err(TransferError::NotEmpty { place });
                }
                // An mcpd that was overlooked waits for these locks, and gets errors.
                for table in layout::tables_there(&mut connection).await? {
                    let drop = format!("DROP TABLE {}", quoted(&table));
                    sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await?;
                }
                let drop = format!("DROP TABLE IF EXISTS {}", POSTGRES_MIGRATIONS.table_name);
                sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut connection).await?;
                Ok(Self {
                    link: Link::Postgres(connection),
                    place,
                    draft: None,
                    replaced: replaced.unwrap_or_default(),
                })
            }
        }
    }

    /// Makes the tables of a layout, without rows.
    ///
    /// # Errors
    /// When this program does not know the layout, or the database fails.
    pub async fn create(&mut self, layout: &Layout, what: &str) -> Result<(), TransferError> {
        layout.check_known(what)?;
        self.upgrade(layout.version).await?;
        on_link!(&mut self.link, connection => {
            let made = layout::read(connection, &self.place).await?;
            let made = made.unwrap_or(Layout { version: 0, tables: Vec::new() });
            layout::compare(layout, &made, what)?;
            // The migrations make the first revision.
            for table in &made.tables {
                let clear = format!("DELETE FROM {}", quoted(&table.name));
                sqlx::raw_sql(AssertSqlSafe(clear)).execute(&mut *connection).await?;
            }
        });
        Ok(())
    }

    async fn upgrade(&mut self, version: i64) -> Result<(), TransferError> {
        let migrations = match &self.link {
            Link::Sqlite(_) => in_one_transaction(&SQLITE_MIGRATIONS),
            Link::Postgres(_) => in_one_transaction(&POSTGRES_MIGRATIONS),
        };
        on_link!(&mut self.link, connection => migrations.run_direct(Some(version), connection, false).await?);
        Ok(())
    }

    /// Writes rows until no more come.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn load(
        &mut self,
        layout: &Layout,
        mut rows: mpsc::Receiver<Batch>,
    ) -> Result<(), TransferError> {
        while let Some(batch) = rows.recv().await {
            let Some(table) = layout.tables.get(batch.table) else { continue };
            let inserted = match &mut self.link {
                Link::Sqlite(connection) => insert_sqlite(connection, table, &batch).await,
                Link::Postgres(connection) => insert_postgres(connection, table, batch).await,
            };
            inserted.map_err(|error| error.of_table(&table.name))?;
        }
        Ok(())
    }

    /// Reads all tables back and compares them with what was read at the source.
    ///
    /// # Errors
    /// When they differ, or the database fails.
    pub async fn verify(&mut self, layout: &Layout, expected: &[Tally]) -> Result<(), TransferError> {
        let found = read_tables(&mut self.link, layout, None, async |_| Ok(())).await?;
        for ((table, expected), found) in layout.tables.iter().zip(expected).zip(&found) {
            if expected != found {
                return Err(TransferError::Differs {
                    table: table.name.clone(),
                    expected: expected.to_string(),
                    found: found.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Makes the store one that was restored: at a revision that no client has seen, so that all read everything anew, and with a row
    /// of the audit. Upgrades it to the latest layout first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn mark_restored(&mut self, restoration: &Restoration) -> Result<Revision, TransferError> {
        self.upgrade(layout::latest()).await?;
        let Restoration { created_at, now, with_tokens } = *restoration;
        let since = now.as_millisecond().saturating_sub(created_at.as_millisecond()).max(0);
        let ahead = REVISIONS_PER_MILLISECOND.saturating_mul(since).saturating_add(MIN_REVISIONS_AHEAD);
        let replaced = self.replaced;
        let revision = on_link!(&mut self.link, connection => {
            let backed_up: i64 =
                sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut *connection).await?;
            let current = backed_up.max(replaced).saturating_add(ahead);
            sqlx::query("UPDATE revision SET current = $1").bind(current).execute(&mut *connection).await?;
            // A client that asks for the changes since a revision learns that they are no longer kept.
            sqlx::query("DELETE FROM changes").execute(&mut *connection).await?;
            if !with_tokens {
                sqlx::query("DELETE FROM resources WHERE kind = $1")
                    .bind(Kind::Token.singular())
                    .execute(&mut *connection)
                    .await?;
            }
            let revision = Revision(current.unsigned_abs());
            insert_audit!(audit_row(restoration, revision), connection)?;
            revision
        });
        Ok(revision)
    }

    /// Fails unless the store that was written was set up with the current key of these.
    ///
    /// # Errors
    /// When it was not, or the database fails.
    pub async fn check_key(&mut self, keys: &Keyring) -> Result<(), TransferError> {
        match self.link.has_key(keys).await? {
            Some(true) => Ok(()),
            _ => Err(TransferError::WrongMasterKey { place: self.place.clone() }),
        }
    }

    /// Puts everything into effect. Not to be dropped before it ends.
    ///
    /// # Errors
    /// When an mcpd uses the database, or it fails; then what was there before is there still.
    pub async fn finish(self) -> Result<(), TransferError> {
        match (self.link, self.draft) {
            (Link::Sqlite(mut connection), Some(draft)) => {
                sqlx::raw_sql("COMMIT").execute(&mut connection).await?;
                connection.close().await?;
                draft.publish().await
            }
            (Link::Postgres(mut connection), _) => {
                link::check_unused(&mut connection, &self.place).await?;
                sqlx::raw_sql("COMMIT").execute(&mut connection).await?;
                Ok(connection.close().await?)
            }
            (Link::Sqlite(_), None) => Err(TransferError::GivenUp),
        }
    }
}

/// The migrations without transactions of their own: they are part of a larger one.
fn in_one_transaction(migrations: &Migrator) -> Migrator {
    let mut migrations: Vec<_> = migrations.iter().cloned().collect();
    migrations.iter_mut().for_each(|migration| migration.no_tx = true);
    Migrator::with_migrations(migrations)
}

fn audit_row(restoration: &Restoration, revision: Revision) -> AuditRow {
    let tokens = if restoration.with_tokens { "" } else { ", without tokens" };
    AuditRow {
        id: Uuid::now_v7(),
        at: restoration.now,
        principal: "mcpd restore".to_owned(),
        principal_id: None,
        token_id: None,
        action: "restore".to_owned(),
        // There is no kind for mcpd itself.
        kind: Kind::Secret,
        resource_id: None,
        resource_name: "mcpd".to_owned(),
        decision: Decision::Allowed,
        reason: format!("the store is as it was at {}{tokens}", restoration.created_at),
        revision,
        request_id: String::new(),
    }
}

async fn insert_sqlite(
    connection: &mut sqlx::SqliteConnection,
    table: &Table,
    batch: &Batch,
) -> Result<(), TransferError> {
    let rows: Vec<usize> = (0..batch.rows()).collect();
    for rows in rows.chunks((MAX_VALUES / table.columns.len().max(1)).max(1)) {
        let mut insert = QueryBuilder::<Sqlite>::new(format!(
            "INSERT INTO {} ({}) ",
            quoted(&table.name),
            table.column_list()
        ));
        insert.push_values(rows, |mut values, row| {
            for column in &batch.columns {
                match column {
                    Values::Text(column) => values.push_bind(column.get(*row).cloned().flatten()),
                    Values::Integer(column) => values.push_bind(column.get(*row).copied().flatten()),
                    Values::Bytes(column) => values.push_bind(column.get(*row).cloned().flatten()),
                };
            }
        });
        insert.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// An array for each column: as fast for a thousand rows as for ten columns.
async fn insert_postgres(
    connection: &mut sqlx::PgConnection,
    table: &Table,
    batch: Batch,
) -> Result<(), TransferError> {
    let arrays = batch.columns.iter().enumerate().map(|(at, values)| {
        let of = match values {
            Values::Text(_) => "text",
            Values::Integer(_) => "bigint",
            Values::Bytes(_) => "bytea",
        };
        format!("${}::{of}[]", at + 1)
    });
    let statement = format!(
        "INSERT INTO {} ({}) SELECT * FROM UNNEST({})",
        quoted(&table.name),
        table.column_list(),
        arrays.collect::<Vec<_>>().join(", ")
    );
    let mut insert = sqlx::query(AssertSqlSafe(statement));
    for values in batch.columns {
        insert = match values {
            Values::Text(values) => insert.bind(values),
            Values::Integer(values) => insert.bind(values),
            Values::Bytes(values) => insert.bind(values),
        };
    }
    insert.execute(connection).await?;
    Ok(())
}
