//! Reads a store in one snapshot, beside the mcpd that serves it or alone. It changes nothing, and does not upgrade the schema.

use std::path::{Path, PathBuf};

use futures::TryStreamExt as _;
use mcpctl_owner::file;
use mcpctl_secret::envelope::Keyring;
use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::mpsc;

use super::{
    error::TransferError,
    layout::{self, Catalog as _, Layout},
    link::{Link, on_link},
    reservation::Reservation,
    rows::{Batch, Tally, Values},
};
use crate::{database::Location, open::describe};

/// Size of SQLite's write-ahead log at which a snapshot is given up. The log cannot begin anew while a snapshot is read.
const MAX_LOG_BYTES: u64 = 1 << 30;

/// The state of a store at the moment at which it was opened.
pub struct Source {
    pub(super) link: Link,
    pub(super) place: String,
    pub(super) layout: Layout,
    /// The write-ahead log, of SQLite.
    pub(super) log: Option<PathBuf>,
    location: Location,
    reservation: Option<Reservation>,
}

impl Source {
    /// Begins the snapshot. An mcpd may serve the store meanwhile.
    ///
    /// # Errors
    /// When there is no store, or it is newer than this program.
    pub async fn open(location: &Location) -> Result<Self, TransferError> {
        Self::begin(location, Link::to_read(location).await?, None).await
    }

    /// As [`Source::open`], where no mcpd may serve the store for as long as this lives. On PostgreSQL nothing can be written to it either:
    /// an mcpd that was overlooked, behind a pooler for example, gets errors, so that it acknowledges nothing that would be lost.
    ///
    /// # Errors
    /// As [`Source::open`], and when one does.
    pub async fn open_alone(location: &Location) -> Result<Self, TransferError> {
        let reservation = Reservation::take(location).await?;
        Self::begin(location, Link::to_read(location).await?, Some(reservation)).await
    }

    async fn begin(
        location: &Location,
        mut link: Link,
        reservation: Option<Reservation>,
    ) -> Result<Self, TransferError> {
        let place = describe(location);
        match (&mut link, &reservation) {
            (Link::Sqlite(connection), _) => {
                sqlx::raw_sql("BEGIN").execute(connection).await?;
            }
            (Link::Postgres(connection), None) => {
                let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                sqlx::raw_sql(begin).execute(connection).await?;
            }
            (Link::Postgres(connection), Some(_)) => {
                let tables = layout::tables_there(connection).await?;
                let tables: Vec<_> = tables.iter().map(|table| layout::quoted(table)).collect();
                sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ").execute(&mut *connection).await?;
                if !tables.is_empty() {
                    // Before the snapshot, so that it has everything that was written. Reads go on.
                    let lock = format!("LOCK TABLE {} IN SHARE MODE", tables.join(", "));
                    sqlx::raw_sql(AssertSqlSafe(lock)).execute(connection).await?;
                }
            }
        }
        // The first read begins the snapshot.
        let layout = on_link!(&mut link, connection => {
            layout::read(connection, &format!("the database {place}")).await?
        });
        let layout = layout.ok_or_else(|| TransferError::Missing { place: place.clone() })?;
        let log = match location {
            Location::Sqlite(path) => Some(file::beside(path, "-wal")),
            Location::Postgres(_) => None,
        };
        Ok(Self { link, place, layout, log, location: location.clone(), reservation })
    }

    /// The tables, and how many rows each has.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the store was set up with the current key of these.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_key(&mut self, keys: &Keyring) -> Result<bool, TransferError> {
        Ok(self.link.has_key(keys).await? == Some(true))
    }

    /// Fails unless the store was set up with the current key of these: no other could open its secrets.
    ///
    /// # Errors
    /// When it was not, or the database fails.
    pub async fn check_key(&mut self, keys: &Keyring) -> Result<(), TransferError> {
        let place = self.place.clone();
        match self.link.has_key(keys).await? {
            None => Err(TransferError::Missing { place }),
            Some(true) => Ok(()),
            Some(false) => Err(TransferError::WrongMasterKey { place }),
        }
    }

    /// Sends all rows, and returns what they were, in the order of the layout's tables.
    ///
    /// # Errors
    /// When the database fails, its log grows too long meanwhile, or nothing receives the rows.
    pub async fn read(&mut self, rows: mpsc::Sender<Batch>) -> Result<Vec<Tally>, TransferError> {
        read_tables(&mut self.link, &self.layout, self.log.as_deref(), async |batch| {
            rows.send(batch).await.map_err(|_| TransferError::GivenUp)
        })
        .await
    }

    /// Fails where the store is no longer as it was read, or an mcpd serves it although this should be alone.
    ///
    /// # Errors
    /// When one does, it was changed, or the database does not answer.
    pub async fn check_unchanged(&mut self) -> Result<(), TransferError> {
        if let Some(reservation) = &mut self.reservation {
            reservation.check().await?;
        }
        let mut present = Link::to_read(&self.location).await?;
        let present = on_link!(&mut present, connection => connection.revision().await?);
        if on_link!(&mut self.link, connection => connection.revision().await?) == present {
            return Ok(());
        }
        Err(TransferError::Changed { place: self.place.clone() })
    }
}

/// Reads the rows of a database's next batch into columns.
macro_rules! read_table {
    ($connection:expr, $place:expr, $table:expr, $take:expr) => {{
        let mut rows = sqlx::query(AssertSqlSafe($table.select())).fetch($connection);
        let mut batch = Batch::new($place, $table);
        while let Some(row) = rows.try_next().await? {
            let mut bytes = 0;
            for (at, values) in batch.columns.iter_mut().enumerate() {
                match values {
                    Values::Integer(values) => values.push(row.try_get(at)?),
                    Values::Text(values) => {
                        let value: Option<String> = row.try_get(at)?;
                        bytes += value.as_ref().map_or(0, String::len);
                        values.push(value);
                    }
                    Values::Bytes(values) => {
                        let value: Option<Vec<u8>> = row.try_get(at)?;
                        bytes += value.as_ref().map_or(0, Vec::len);
                        values.push(value);
                    }
                }
            }
            batch.grow(bytes);
            if batch.is_full() {
                $take(std::mem::replace(&mut batch, Batch::new($place, $table))).await?;
            }
        }
        if batch.rows() > 0 {
            $take(batch).await?;
        }
    }};
}

/// Gives all rows of a layout's tables to `take`, and returns what they were.
pub(super) async fn read_tables(
    link: &mut Link,
    layout: &Layout,
    log: Option<&Path>,
    mut take: impl AsyncFnMut(Batch) -> Result<(), TransferError>,
) -> Result<Vec<Tally>, TransferError> {
    let mut tallies = Vec::with_capacity(layout.tables.len());
    for (place, table) in layout.tables.iter().enumerate() {
        let mut tally = Tally::default();
        let mut counted = async |batch: Batch| {
            if log.is_some_and(|log| std::fs::metadata(log).is_ok_and(|log| log.len() > MAX_LOG_BYTES)) {
                return Err(TransferError::LogTooLong { mebibytes: MAX_LOG_BYTES >> 20 });
            }
            tally.add(&batch);
            take(batch).await
        };
        let read = async {
            on_link!(&mut *link, connection => read_table!(&mut *connection, place, table, counted));
            Ok(())
        };
        read.await.map_err(|error: TransferError| error.of_table(&table.name))?;
        tallies.push(tally);
    }
    Ok(tallies)
}
