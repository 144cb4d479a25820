//! SQLite or PostgreSQL: the connection pools, and the macros that run statements on either.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use mcpctl_api::{Kind, Revision};
use mcpctl_secret::envelope::Keyring;
use sqlx::{
    PgPool, Sqlite, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

use crate::{connection::Connection, error::StoreError};

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file on this machine; its directory exists.
    Sqlite(PathBuf),
    /// A server that replicas share, as `postgres://user:password@host/database`.
    Postgres(String),
}

/// The database of resources at gap-free revisions. Clones share the connections.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) keys: Arc<Keyring>,
    /// The revision of the last commit by this process.
    pub(crate) committed: watch::Sender<Revision>,
    /// Counts the rotations of the signing keys that were noticed.
    pub(crate) rotations: watch::Sender<u64>,
}

#[derive(Clone)]
pub(crate) enum Database {
    Sqlite {
        /// One connection, because SQLite has one writer; the pool's queue is fairer than the file's lock.
        write: SqlitePool,
        read: SqlitePool,
        file: Arc<DatabaseFile>,
    },
    Postgres(PgPool),
}

/// Runs a query on a connection for reading, of either database.
macro_rules! read_connection {
    ($database:expr, $connection:ident => $query:expr) => {
        match $database {
            $crate::database::Database::Sqlite { read, file, .. } => {
                let mut $connection = file.acquire(read).await?;
                let value = $query;
                $connection.release();
                value
            }
            $crate::database::Database::Postgres(pool) => {
                let mut $connection = $crate::connection::Connection::acquire(pool).await?;
                let value = $query;
                $connection.release();
                value
            }
        }
    };
}

/// Runs queries in a transaction that sees one state of the store, of either database. It does not commit.
macro_rules! read_transaction {
    ($database:expr, $transaction:ident => $body:expr) => {
        match $database {
            $crate::database::Database::Sqlite { read, file, .. } => {
                let connection = file.acquire(read).await?;
                let mut $transaction =
                    $crate::connection::Transaction::<sqlx::Sqlite>::begin(connection, "BEGIN").await?;
                $body
            }
            $crate::database::Database::Postgres(pool) => {
                let connection = $crate::connection::Connection::acquire(pool).await?;
                let statement = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
                let mut $transaction =
                    $crate::connection::Transaction::<sqlx::Postgres>::begin(connection, statement).await?;
                $body
            }
        }
    };
}

/// Runs statements in a write transaction of either database, then commits it. On SQLite it takes the write lock at its
/// beginning. A body that returns early rolls back.
macro_rules! write_transaction {
    ($database:expr, $transaction:ident => $body:expr) => {
        match $database {
            $crate::database::Database::Sqlite { write, file, .. } => {
                let connection = file.acquire(write).await?;
                let mut $transaction =
                    $crate::connection::Transaction::<sqlx::Sqlite>::begin(connection, "BEGIN IMMEDIATE")
                        .await?;
                let value = $body;
                $transaction.commit().await?;
                value
            }
            $crate::database::Database::Postgres(pool) => {
                let connection = $crate::connection::Connection::acquire(pool).await?;
                let mut $transaction =
                    $crate::connection::Transaction::<sqlx::Postgres>::begin(connection, "BEGIN").await?;
                let value = $body;
                $transaction.commit().await?;
                value
            }
        }
    };
}

pub(crate) use {read_connection, read_transaction, write_transaction};

/// How long a statement waits for a connection or a lock.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

impl Store {
    /// Checks that the database responds.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.current_revision().await.map(drop)
    }

    /// Closes the connections; later operations fail.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite { write, read, .. } => {
                read.close().await;
                write.close().await;
            }
            Database::Postgres(pool) => pool.close().await,
        }
    }
}

/// The identity of an SQLite file when it was opened. SQLite continues to read and write a file that was deleted or
/// replaced, and everything that it acknowledged is lost at the next start.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl DatabaseFile {
    fn of(path: &Path, file: &File) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(&file.metadata()?) })
    }

    /// A connection, after checking that the file is still at its path.
    pub(crate) async fn acquire(&self, pool: &SqlitePool) -> Result<Connection<Sqlite>, StoreError> {
        let connection = Connection::acquire(pool).await;
        // Checked after the connection was made; if the check fails, the connection is closed.
        match std::fs::metadata(&self.path) {
            Ok(there) if identity(&there) == self.identity => Ok(connection?),
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(sqlx::Error::Io(error).into()),
            _ => Err(StoreError::FileMoved),
        }
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Database {
    pub(crate) async fn connect(location: &Location) -> Result<Self, String> {
        match location {
            Location::Sqlite(path) => open_sqlite(path).await,
            Location::Postgres(url) => open_postgres(url).await,
        }
    }
}

async fn open_sqlite(path: &Path) -> Result<Database, String> {
    // Created here and not by SQLite, so that other users can never read it, not even for a moment.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let file = made.and_then(|made| DatabaseFile::of(path, &made)).map_err(|error| error.to_string())?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged revocation survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(ACQUIRE_TIMEOUT);
    let pool = |connections: u32| {
        SqlitePoolOptions::new().max_connections(connections).acquire_timeout(ACQUIRE_TIMEOUT)
    };
    let write = pool(1).connect_with(options.clone()).await.map_err(|error| error.to_string())?;
    let read = pool(4).connect_with(options.read_only(true)).await.map_err(|error| error.to_string())?;
    Ok(Database::Sqlite { write, read, file: Arc::new(file) })
}

async fn open_postgres(url: &str) -> Result<Database, String> {
    let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
    let options = options.options([
        ("statement_timeout", "10s"),
        ("lock_timeout", "5s"),
        ("idle_in_transaction_session_timeout", "10s"),
    ]);
    let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(ACQUIRE_TIMEOUT);
    pool.connect_with(options).await.map(Database::Postgres).map_err(|error| match error {
        sqlx::Error::PoolTimedOut => "no connection within 3 s".to_owned(),
        error => error.to_string(),
    })
}

pub(crate) fn parse_kind(text: &str, id: &str) -> Result<Kind, StoreError> {
    text.parse().map_err(|error| StoreError::Unreadable {
        kind: text.to_owned(),
        id: id.to_owned(),
        reason: format!("{error}"),
    })
}
