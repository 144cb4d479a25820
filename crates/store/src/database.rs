//! The two databases behind one face: opening, migrating, and the pools.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use mcpctl_api::Kind;
use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing, MasterKeyFileError},
};
use sqlx::{
    PgPool, Sqlite, SqlitePool,
    migrate::MigrateError,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::{
    canary::{self, UnlockError},
    connection::Connection,
    error::StoreError,
};

/// Where resources are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A file of this machine; its directory exists.
    Sqlite(PathBuf),
    /// A server that replicas share, as `postgres://user:password@host/database`.
    Postgres(String),
}

/// Resources at gap-free revisions. Clones share the connections.
#[derive(Clone)]
pub struct Store {
    pub(crate) database: Database,
    pub(crate) keys: Arc<Keyring>,
}

#[derive(Clone)]
pub(crate) enum Database {
    Sqlite {
        /// One connection, because SQLite has one writer; waiting for it is fairer here than in the file's lock.
        write: SqlitePool,
        read: SqlitePool,
        file: Arc<DatabaseFile>,
    },
    Postgres(PgPool),
}

/// Runs the same query on a connection for reading of whichever database there is.
macro_rules! read {
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

/// Runs the same queries in a transaction that sees one state of the store.
macro_rules! snapshot {
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

/// Runs the same statements in a transaction that holds the one write lock of the store from its beginning.
macro_rules! write {
    ($database:expr, $transaction:ident => $body:expr) => {
        match $database {
            $crate::database::Database::Sqlite { write, file, .. } => {
                let connection = file.acquire(write).await?;
                let mut $transaction =
                    $crate::connection::Transaction::<sqlx::Sqlite>::begin(connection, "BEGIN IMMEDIATE")
                        .await?;
                $body
            }
            $crate::database::Database::Postgres(pool) => {
                let connection = $crate::connection::Connection::acquire(pool).await?;
                let mut $transaction =
                    $crate::connection::Transaction::<sqlx::Postgres>::begin(connection, "BEGIN").await?;
                $body
            }
        }
    };
}

pub(crate) use {read, snapshot, write};

/// Why a store cannot be opened. One line; [`OpenError::hint`] has the next step.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database does not answer or refuses.
    #[error("the database {place} cannot be opened: {reason}")]
    Unavailable {
        /// The file, or the server without its password.
        place: String,
        /// What the database said.
        reason: String,
    },
    /// A newer version of the program wrote it.
    #[error("the database {place} was written by a newer version of mcpd")]
    Newer {
        /// The file, or the server without its password.
        place: String,
    },
    /// There is no master key for it, or it cannot be read.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyFileError),
    /// Its secrets are sealed with another key.
    #[error("the master key is not the one that the database {place} was made with")]
    WrongMasterKey {
        /// The file, or the server without its password.
        place: String,
    },
}

impl OpenError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::MasterKey(error) => return error.hint(),
            Self::Unavailable { place, .. } if place.starts_with('`') => {
                "check that the directory exists and that this user may write there, and that the file is a database of mcpd"
                    .to_owned()
            }
            Self::Unavailable { .. } => "check address, user and password, and that the server runs".to_owned(),
            Self::Newer { .. } => "use at least the version of mcpd that wrote it".to_owned(),
            Self::WrongMasterKey { .. } => {
                "give the right key with --master-key-file; without it the secrets are lost".to_owned()
            }
        })
    }
}

/// How long a statement waits for a connection or a lock.
const PATIENCE: Duration = Duration::from_secs(3);

impl Store {
    /// Opens a database and brings it to this version's schema.
    ///
    /// # Errors
    /// When it cannot be opened, is newer than this program, or was made with another master key.
    pub async fn open(location: &Location, keys: Arc<Keyring>) -> Result<Self, OpenError> {
        Self::open_with(location, |_| Ok(keys)).await
    }

    /// As [`Store::open`], with the master key of a file. The key is made where there is none and the store is empty.
    ///
    /// # Errors
    /// As [`Store::open`], and when there is no key for a store that is not empty.
    pub async fn open_with_key_file(location: &Location, path: &Path) -> Result<Self, OpenError> {
        let keys = |if_missing| {
            master_key_file::load_or_create(path, if_missing).map(|key| Arc::new(Keyring::new(key)))
        };
        Self::open_with(location, keys).await
    }

    async fn open_with(
        location: &Location,
        keys: impl FnOnce(IfMissing) -> Result<Arc<Keyring>, MasterKeyFileError>,
    ) -> Result<Self, OpenError> {
        let place = describe(location);
        let unavailable =
            |reason: String| OpenError::Unavailable { place: place.clone(), reason: one_line(&reason) };
        let database = Database::connect(location).await.map_err(unavailable)?;
        let migrated = match &database {
            Database::Sqlite { write, .. } => sqlx::migrate!("migrations/sqlite").run(write).await,
            Database::Postgres(pool) => sqlx::migrate!("migrations/postgres").run(pool).await,
        };
        migrated.map_err(|error| match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
                OpenError::Newer { place: place.clone() }
            }
            error => unavailable(error.to_string()),
        })?;
        match canary::unlock(&database, keys).await {
            Ok(keys) => Ok(Self { database, keys }),
            Err(UnlockError::MasterKey(error)) => Err(error.into()),
            Err(UnlockError::WrongMasterKey) => Err(OpenError::WrongMasterKey { place }),
            Err(UnlockError::Store(error)) => Err(unavailable(error.to_string())),
        }
    }

    /// Whether a store was set up with a master key already; makes and changes nothing.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub async fn has_master_key(location: &Location) -> Result<bool, OpenError> {
        if matches!(location, Location::Sqlite(path) if !path.exists()) {
            return Ok(false);
        }
        let unavailable =
            |reason: String| OpenError::Unavailable { place: describe(location), reason: one_line(&reason) };
        let database = Database::connect(location).await.map_err(unavailable)?;
        canary::is_there(&database).await.map_err(|error| unavailable(error.to_string()))
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.current_revision().await.map(drop)
    }

    /// Closes the connections; whatever is asked afterwards fails.
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

/// The file of an SQLite database, as it was when it was opened. SQLite goes on reading and writing a file that was deleted
/// or replaced, and everything that it acknowledges is gone with the next start.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl DatabaseFile {
    fn of(path: &Path, file: &File) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(&file.metadata()?) })
    }

    /// A connection to this very file.
    pub(crate) async fn acquire(&self, pool: &SqlitePool) -> Result<Connection<Sqlite>, StoreError> {
        let connection = Connection::acquire(pool).await;
        // Looked at after the connection was made; where it fails, the connection is closed.
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
    async fn connect(location: &Location) -> Result<Self, String> {
        match location {
            Location::Sqlite(path) => open_sqlite(path).await,
            Location::Postgres(url) => open_postgres(url).await,
        }
    }
}

async fn open_sqlite(path: &Path) -> Result<Database, String> {
    // Made here and not by SQLite, so that it is never readable by others, not even for a moment.
    let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    let file = made.and_then(|made| DatabaseFile::of(path, &made)).map_err(|error| error.to_string())?;
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // A revocation that was acknowledged survives a power cut too.
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(PATIENCE);
    let pool =
        |connections: u32| SqlitePoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE);
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
    let pool = PgPoolOptions::new().max_connections(10).acquire_timeout(PATIENCE);
    pool.connect_with(options).await.map(Database::Postgres).map_err(|error| match error {
        sqlx::Error::PoolTimedOut => "no connection within 3 s".to_owned(),
        error => error.to_string(),
    })
}

/// The place for messages, without credentials.
fn describe(location: &Location) -> String {
    match location {
        Location::Sqlite(path) => format!("`{}`", path.display()),
        Location::Postgres(url) => match PgConnectOptions::from_str(url) {
            Ok(options) => {
                let database = options.get_database().unwrap_or_default();
                format!("postgres://{}:{}/{database}", options.get_host(), options.get_port())
            }
            Err(_) => "at the given url".to_owned(),
        },
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

pub(crate) fn parse_kind(text: &str, id: &str) -> Result<Kind, StoreError> {
    text.parse().map_err(|error| StoreError::Unreadable {
        kind: text.to_owned(),
        id: id.to_owned(),
        reason: format!("{error}"),
    })
}
