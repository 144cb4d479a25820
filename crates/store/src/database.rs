//! SQLite or PostgreSQL: the connection pools, and the macros that run statements on either.

use std::{path::PathBuf, str::FromStr as _, sync::Arc};

use mcpctl_api::Kind;
use mcpctl_secret::envelope::Keyring;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::watch;

use crate::{
    commits::Commits, connection::ACQUIRE_TIMEOUT, error::StoreError, exclusive::APPLICATION_NAME,
    sqlite::SqliteDatabase,
};

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
    /// What this process knows of commits.
    pub(crate) commits: Arc<Commits>,
    /// Counts the rotations of the signing keys that were noticed.
    pub(crate) rotations: watch::Sender<u64>,
}

#[derive(Clone)]
pub(crate) enum Database {
    Sqlite(Arc<SqliteDatabase>),
    Postgres(PgPool),
}

/// Runs a query on a connection for reading, of either database.
macro_rules! read_connection {
    ($database:expr, $connection:ident => $query:expr) => {
        match $database {
            $crate::database::Database::Sqlite(sqlite) => {
                let mut $connection = sqlite.reader().await?;
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
            $crate::database::Database::Sqlite(sqlite) => {
                let connection = sqlite.reader().await?;
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

/// Runs statements in a write transaction of either database, then ends it by the last expression. On SQLite it takes the write lock
/// at its beginning. A body that returns early rolls back.
macro_rules! transaction_of {
    ($database:expr, $durability:expr, $transaction:ident => $body:expr; $commit:expr) => {
        match $database {
            $crate::database::Database::Sqlite(sqlite) => {
                let connection = sqlite.writer($durability).await?;
                let mut $transaction =
                    $crate::connection::Transaction::<sqlx::Sqlite>::begin(connection, "BEGIN IMMEDIATE")
                        .await?;
                let value = $body;
                $commit.await?;
                sqlite.note_write();
                value
            }
            $crate::database::Database::Postgres(pool) => {
                let connection = $crate::connection::Connection::acquire(pool).await?;
                let statement = $crate::durability::begin_postgres($durability);
                let mut $transaction =
                    $crate::connection::Transaction::<sqlx::Postgres>::begin(connection, statement).await?;
                let value = $body;
                $commit.await?;
                value
            }
        }
    };
}

/// Runs statements in a write transaction of this durability, then commits it. Nothing that decisions depend on is changed by it.
macro_rules! write_transaction_of {
    ($database:expr, $durability:expr, $transaction:ident => $body:expr) => {
        $crate::database::transaction_of!(
            $database, $durability, $transaction => $body; $transaction.commit()
        )
    };
}

/// As `write_transaction_of`, of one that survives a power cut.
macro_rules! write_transaction {
    ($database:expr, $transaction:ident => $body:expr) => {
        $crate::database::write_transaction_of!(
            $database, $crate::durability::Durability::PowerCut, $transaction => $body
        )
    };
}

/// As `write_transaction`, of what decisions depend on: resources and signing keys. `revision` is the one that it makes, if it makes one.
macro_rules! noted_transaction {
    ($store:expr, $revision:expr, $transaction:ident => $body:expr) => {
        $crate::database::transaction_of!(
            &$store.database, $crate::durability::Durability::PowerCut, $transaction => $body;
            $transaction.commit_noting($store.commits.begin(), $revision)
        )
    };
}

pub(crate) use {
    noted_transaction, read_connection, read_transaction, transaction_of, write_transaction,
    write_transaction_of,
};

impl Store {
    /// Checks that the database responds.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.current_revision().await.map(drop)
    }

    /// Has everything that was committed survive a power cut, before the process ends. On PostgreSQL the server does it.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn sync(&self) -> Result<(), StoreError> {
        match &self.database {
            Database::Sqlite(sqlite) => Ok(sqlite.sync().await.map_err(sqlx::Error::Io)?),
            Database::Postgres(_) => Ok(()),
        }
    }

    /// Closes the connections; later operations fail.
    pub async fn close(&self) {
        match &self.database {
            Database::Sqlite(sqlite) => sqlite.close().await,
            Database::Postgres(pool) => pool.close().await,
        }
    }
}

impl Database {
    pub(crate) async fn connect(location: &Location) -> Result<Self, String> {
        match location {
            Location::Sqlite(path) => {
                SqliteDatabase::open(path).await.map(|sqlite| Self::Sqlite(Arc::new(sqlite)))
            }
            Location::Postgres(url) => open_postgres(url).await,
        }
    }
}

async fn open_postgres(url: &str) -> Result<Database, String> {
    let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
    let options = options.application_name(APPLICATION_NAME).options([
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
