//! A store that no mcpd serves.

use std::path::Path;

use sqlx::PgConnection;

use super::{
    error::TransferError,
    link::{self, Link},
};
use crate::{
    database::{Location, Store},
    open::{Claim, OpenError, describe},
    ownership::Ownership,
};

/// A store that no mcpd served when this was made, and that none begins to serve for as long as it lives.
pub struct Reservation(Held);

enum Held {
    File { _ownership: Ownership },
    Server { connection: PgConnection, place: String },
}

impl Reservation {
    /// Takes a store that exists.
    ///
    /// # Errors
    /// When an mcpd serves it, another command has it, there is none, or the database does not answer.
    pub async fn take(location: &Location) -> Result<Self, TransferError> {
        let place = describe(location);
        match (location, Link::to_read(location).await?) {
            (_, Link::Postgres(mut connection)) => {
                sqlx::raw_sql("BEGIN").execute(&mut connection).await?;
                link::reserve(&mut connection, &place).await?;
                Ok(Self(Held::Server { connection, place }))
            }
            (Location::Sqlite(path), Link::Sqlite(_)) => {
                Ok(Self(Held::File { _ownership: Ownership::take(path)? }))
            }
            (Location::Postgres(_), Link::Sqlite(_)) => Err(TransferError::GivenUp),
        }
    }

    /// Opens the store, with the master key from a file.
    ///
    /// # Errors
    /// As [`Store::open_with_key_file`].
    pub async fn open(&self, location: &Location, key_file: &Path) -> Result<Store, OpenError> {
        Store::open_claimed(location, Claim::Reserved, key_file).await
    }

    /// Fails where an mcpd serves the store all the same: one that had no connection for a moment when this was made.
    ///
    /// # Errors
    /// When one does, or the database does not answer.
    pub async fn check(&mut self) -> Result<(), TransferError> {
        match &mut self.0 {
            Held::File { .. } => Ok(()),
            Held::Server { connection, place } => link::check_unused(connection, place).await,
        }
    }
}
