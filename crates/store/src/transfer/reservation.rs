//! A store that no mcpd serves.

use super::{
    error::TransferError,
    link::{self, Link},
};
use crate::{database::Location, open::describe, ownership::Ownership};

/// Shows that no mcpd served the store when this was made. None can begin to serve one in SQLite for as long as it lives.
pub struct Reservation(#[expect(dead_code, reason = "held for its lock")] Option<Ownership>);

impl Reservation {
    /// Takes a store that exists.
    ///
    /// # Errors
    /// When an mcpd serves it, there is none, or the database does not answer.
    pub async fn take(location: &Location) -> Result<Self, TransferError> {
        match (location, Link::to_read(location).await?) {
            (Location::Sqlite(path), _) => Ok(Self(Some(Ownership::take(path)?))),
            (Location::Postgres(_), Link::Postgres(mut connection)) => {
                link::check_unused(&mut connection, &describe(location)).await?;
                Ok(Self(None))
            }
            (Location::Postgres(_), Link::Sqlite(_)) => Ok(Self(None)),
        }
    }
}
