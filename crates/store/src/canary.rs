//! The canary: a known text, sealed with the master key that a store was set up with. A key that cannot open it is the
//! wrong one. On an empty store, one replica seals it at the first start.

use std::sync::Arc;

use mcpctl_secret::{
    envelope::{self, Keyring},
    master_key_file::{IfMissing, MasterKeyFileError},
};

use crate::{
    database::{Database, read_connection, write_transaction},
    error::StoreError,
};

/// The key of its row in `settings`.
pub(crate) const KEY: &str = "master-key-canary";
/// Reads it by that key.
pub(crate) const SELECT: &str = "SELECT value FROM settings WHERE key = $1";

/// Why there is no key for a store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnlockError {
    #[error(transparent)]
    MasterKey(#[from] MasterKeyFileError),
    #[error("the master key is another one")]
    WrongMasterKey,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for UnlockError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Reads the sealed text, if the store has one.
macro_rules! canary {
    ($connection:expr) => {
        sqlx::query_scalar::<_, Vec<u8>>(SELECT).bind(KEY).fetch_optional($connection).await?
    };
}

/// The keys of a store. `keys` loads them; on an empty store it may create them.
pub(crate) async fn unlock(
    database: &Database,
    keys: impl FnOnce(IfMissing) -> Result<Arc<Keyring>, MasterKeyFileError>,
) -> Result<Arc<Keyring>, UnlockError> {
    if let Some(sealed) = read_connection!(database, connection => canary!(&mut *connection)) {
        return opened(keys(IfMissing::Fail)?, &sealed);
    }
    write_transaction!(database, transaction => {
        // Takes the lock of all writers: of replicas that start at the same moment, one creates the key and the others
        // wait here. The key is on disk before the canary is committed, so replicas that share the file find it.
        sqlx::query("UPDATE revision SET current = current").execute(&mut *transaction).await?;
        let canary = canary!(&mut *transaction);
        let secrets: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM resources WHERE confidential IS NOT NULL AND kind = $1")
            .bind(mcpctl_api::Kind::Secret.singular())
            .fetch_one(&mut *transaction)
            .await?;
        let is_empty = canary.is_none() && secrets == 0;
        let keys = match keys(if is_empty { IfMissing::Create } else { IfMissing::Fail }) {
            Ok(keys) => keys,
            Err(error) => {
                transaction.rollback().await?;
                return Err(error.into());
            }
        };
        let sealed = match canary {
            Some(sealed) => sealed,
            None => {
                let sealed = seal(&keys)?;
                sqlx::query("INSERT INTO settings (key, value) VALUES ($1, $2)")
                    .bind(KEY)
                    .bind(&sealed)
                    .execute(&mut *transaction)
                    .await?;
                sealed
            }
        };
        opened(keys, &sealed)
    })
}

/// Whether the database has a canary. Works on a store of any version, and on a database without tables.
pub(crate) async fn is_there(database: &Database) -> Result<bool, StoreError> {
    let tables = match database {
        Database::Sqlite(_) => "SELECT COUNT(*) FROM sqlite_master WHERE name = 'settings'",
        Database::Postgres(_) => {
            "SELECT COUNT(*) FROM information_schema.tables \
             WHERE table_name = 'settings' AND table_schema = ANY (current_schemas(false))"
        }
    };
    Ok(read_connection!(database, connection => {
        let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut *connection).await?;
        tables > 0 && canary!(&mut *connection).is_some()
    }))
}

pub(crate) fn seal(keys: &Keyring) -> Result<Vec<u8>, StoreError> {
    envelope::seal(keys.current(), KEY.as_bytes(), KEY.as_bytes())
        .map(envelope::Sealed::into_bytes)
        .map_err(|error| StoreError::Vault(error.to_string()))
}

fn opened(keys: Arc<Keyring>, sealed: &[u8]) -> Result<Arc<Keyring>, UnlockError> {
    if opens(&keys, sealed) { Ok(keys) } else { Err(UnlockError::WrongMasterKey) }
}

/// Whether these keys are those of the store.
pub(crate) fn opens(keys: &Keyring, sealed: &[u8]) -> bool {
    envelope::open(keys, KEY.as_bytes(), sealed).is_ok()
}
