//! Opens a store: connects, migrates the schema, and unlocks it with the master key.

use std::{path::Path, str::FromStr as _, sync::Arc};

use mcpctl_secret::{
    envelope::Keyring,
    master_key_file::{self, IfMissing, MasterKeyFileError},
};
use sqlx::{
    migrate::{MigrateError, Migrator},
    postgres::PgConnectOptions,
};
use tokio::sync::watch;

use crate::{
    canary::{self, UnlockError},
    commits::{Access, Commits},
    database::{Database, Location, Store},
    exclusive,
    ownership::Ownership,
};

/// The schema of SQLite; both have the same versions.
pub(crate) static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
/// The schema of PostgreSQL.
pub(crate) static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// What a process that opens a store holds of its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Nothing: no command may have it to itself.
    None,
    /// It is the command that has it to itself.
    Reserved,
}

/// Why a store cannot be opened. The message is one line; [`OpenError::hint`] has the next step.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database does not respond, or rejects the connection.
    #[error("the database {place} cannot be opened: {reason}")]
    Unavailable {
        /// The file, or the server without its password.
        place: String,
        /// The database's message.
        reason: String,
    },
    /// A newer version of mcpd wrote it.
    #[error("the database {place} was written by a newer version of mcpd")]
    Newer {
        /// The file, or the server without its password.
        place: String,
    },
    /// A command has it to itself.
    #[error("a command of mcpd has the database {place} to itself")]
    Reserved {
        /// The server without its password.
        place: String,
    },
    /// The master key is missing or cannot be read.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyFileError),
    /// The database's secrets are sealed with another key.
    #[error("the master key is not the one that the database {place} was made with")]
    WrongMasterKey {
        /// The file, or the server without its password.
        place: String,
    },
}

impl OpenError {
    /// The next step, if there is one.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::MasterKey(error) => return error.hint(),
            Self::Unavailable { place, .. } if place.starts_with('`') => {
                "check that the disk has room, that the directory exists, that this user may write there, and that the file is a database of mcpd"
                    .to_owned()
            }
            Self::Unavailable { .. } => "check address, user and password, and that the server runs".to_owned(),
            Self::Newer { .. } => "use at least the version of mcpd that wrote it".to_owned(),
            Self::Reserved { .. } => {
                "start again once `mcpd migrate`, `mcpd restore` or `mcpd rotate-master-key` has ended".to_owned()
            }
            Self::WrongMasterKey { .. } => {
                "give the right key with --master-key-file; without it the secrets are lost".to_owned()
            }
        })
    }
}

impl Store {
    /// Opens a database and migrates it to this version's schema.
    ///
    /// # Errors
    /// When it cannot be opened, is newer than this program, or was made with another master key.
    pub async fn open(location: &Location, keys: Arc<Keyring>) -> Result<Self, OpenError> {
        Self::open_with(location, Claim::None, |_| Ok(keys)).await
    }

    /// As [`Store::open`], with the master key from a file. On an empty store a missing key is created.
    ///
    /// # Errors
    /// As [`Store::open`], and when the key of a store that is not empty is missing.
    pub async fn open_with_key_file(location: &Location, path: &Path) -> Result<Self, OpenError> {
        Self::open_claimed(location, Claim::None, path).await
    }

    /// As [`Store::open_with_key_file`], with what the caller holds of the database.
    pub(crate) async fn open_claimed(
        location: &Location,
        claim: Claim,
        path: &Path,
    ) -> Result<Self, OpenError> {
        let keys = |if_missing| {
            master_key_file::load_or_create(path, if_missing).map(|key| Arc::new(Keyring::new(key)))
        };
        let wrong = match Self::open_with(location, claim, keys).await {
            Err(error @ OpenError::WrongMasterKey { .. }) => error,
            opened => return opened,
        };
        // A rotation that was interrupted after its commit: the new key is still beside the old one.
        let Some(next) = master_key_file::load_next(path)? else { return Err(wrong) };
        let next = Arc::new(Keyring::new(next));
        let store = Self::open_with(location, claim, |_| Ok(next)).await.map_err(|_| wrong)?;
        let old = master_key_file::load_or_create(path, IfMissing::Fail)?.id();
        master_key_file::promote_next(path, old)?;
        Ok(store)
    }

    async fn open_with(
        location: &Location,
        claim: Claim,
        keys: impl FnOnce(IfMissing) -> Result<Arc<Keyring>, MasterKeyFileError>,
    ) -> Result<Self, OpenError> {
        let place = describe(location);
        let unavailable =
            |reason: String| OpenError::Unavailable { place: place.clone(), reason: one_line(&reason) };
        let database = Database::connect(location).await.map_err(unavailable)?;
        if let (Database::Postgres(pool), Claim::None) = (&database, claim)
            // After it has a connection that such a command finds.
            && exclusive::is_reserved(pool).await.map_err(|error| unavailable(error.to_string()))?
        {
            return Err(OpenError::Reserved { place });
        }
        let migrated = match &database {
            Database::Sqlite(sqlite) => SQLITE_MIGRATIONS.run(sqlite.owner()).await,
            Database::Postgres(pool) => POSTGRES_MIGRATIONS.run(pool).await,
        };
        migrated.map_err(|error| match error {
            MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => {
                OpenError::Newer { place: place.clone() }
            }
            error => unavailable(error.to_string()),
        })?;
        match canary::unlock(&database, keys).await {
            Ok(keys) => Ok(Self {
                database,
                keys,
                commits: Arc::new(Commits::new(match location {
                    Location::Sqlite(path) => Access::Guest(path.clone()),
                    Location::Postgres(_) => Access::Shared,
                })),
                rotations: watch::Sender::default(),
            }),
            Err(UnlockError::MasterKey(error)) => Err(error.into()),
            Err(UnlockError::WrongMasterKey) => Err(OpenError::WrongMasterKey { place }),
            Err(UnlockError::Store(error)) => Err(unavailable(error.to_string())),
        }
    }

    /// The same store, in the process that serves it. Its replica knows by that, without a read, when nothing was committed.
    #[must_use]
    pub fn owned(self, ownership: Ownership) -> Self {
        Self { commits: Arc::new(Commits::new(Access::Owner(ownership))), ..self }
    }

    /// Whether the store was set up with a master key before. Creates and changes nothing.
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
}

impl Location {
    /// The location for messages, without credentials.
    pub fn for_people(&self) -> String {
        describe(self)
    }
}

pub(crate) fn describe(location: &Location) -> String {
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

pub(crate) fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
