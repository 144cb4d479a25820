//! One connection to either database, for as long as a transfer takes: none of the timeouts of requests.

use std::{path::Path, str::FromStr as _, time::Duration};

use mcpctl_secret::envelope::Keyring;
use sqlx::{
    ConnectOptions as _, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};

use super::error::TransferError;
use crate::{
    canary,
    database::Location,
    exclusive,
    open::{describe, one_line},
};

/// How long a transfer waits for the lock of a table that a running mcpd upgrades.
const LOCK_TIMEOUT: &str = "5s";
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection.
pub(super) enum Link {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Runs a query on either connection.
macro_rules! on_link {
    ($link:expr, $connection:ident => $query:expr) => {
        match $link {
            $crate::transfer::link::Link::Sqlite($connection) => $query,
            $crate::transfer::link::Link::Postgres($connection) => $query,
        }
    };
}

pub(super) use on_link;

impl Link {
    /// Connects to a database to read it.
    pub(super) async fn to_read(location: &Location) -> Result<Self, TransferError> {
        let place = describe(location);
        let unavailable = |reason: sqlx::Error| TransferError::Unavailable {
            place: place.clone(),
            reason: one_line(&reason.to_string()),
        };
        match location {
            Location::Sqlite(path) if !path.exists() => Err(TransferError::Missing { place }),
            Location::Sqlite(path) => {
                let options = sqlite(path).read_only(true);
                options.connect().await.map(Self::Sqlite).map_err(unavailable)
            }
            Location::Postgres(url) => {
                postgres(url).map_err(unavailable)?.connect().await.map(Self::Postgres).map_err(unavailable)
            }
        }
    }

    /// Whether the store was set up with the current key of these; `None` where there is no store.
    pub(super) async fn has_key(&mut self, keys: &Keyring) -> Result<Option<bool>, TransferError> {
        let sealed: Option<Vec<u8>> = on_link!(self, connection => {
            sqlx::query_scalar(canary::SELECT).bind(canary::KEY).fetch_optional(connection).await?
        });
        Ok(sealed.map(|sealed| canary::opens(keys, &sealed)))
    }
}

/// The options of a connection to a file.
pub(super) fn sqlite(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT)
}

/// The options of a connection to a server.
pub(super) fn postgres(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    Ok(PgConnectOptions::from_str(url)?.application_name("mcpd transfer").options([
        ("statement_timeout", "0"),
        ("idle_in_transaction_session_timeout", "0"),
        ("lock_timeout", LOCK_TIMEOUT),
    ]))
}

/// Takes a PostgreSQL database for the rest of the transaction.
pub(super) async fn reserve(connection: &mut PgConnection, place: &str) -> Result<(), TransferError> {
    if !exclusive::reserve(connection).await? {
        return Err(TransferError::Reserved { place: place.to_owned() });
    }
    // After the lock is taken: from here on none begins to serve it.
    check_unused(connection, place).await
}

/// Fails where an mcpd serves the PostgreSQL database.
pub(super) async fn check_unused(connection: &mut PgConnection, place: &str) -> Result<(), TransferError> {
    match exclusive::connections(connection).await? {
        0 => Ok(()),
        count => Err(TransferError::InUse { place: place.to_owned(), count }),
    }
}
