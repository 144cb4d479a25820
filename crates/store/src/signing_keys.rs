//! The keys that sign what agents rely on: one pair for all replicas, sealed with the master key. The current key signs, and
//! agents know the next one in advance, so that they can follow a rotation.

use jiff::Timestamp;
use mcpctl_access::proof::{KeyId, SigningKey};
use mcpctl_secret::envelope;
use tokio::sync::watch;

use crate::{
    database::{Store, noted_transaction, read_connection},
    error::StoreError,
    notices::Announce as _,
    rows::{AuditRow, insert_audit},
};

/// The pair of keys of a store.
#[derive(Debug)]
pub struct SigningKeys {
    /// The number of the current key; it counts the keys that were made.
    pub number: i64,
    /// Signs.
    pub current: SigningKey,
    /// Signs after the next rotation.
    pub next: SigningKey,
}

/// Why the keys were not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// Another key is the current one: someone else has rotated them.
    #[error("the current key is `{current}`")]
    NotCurrent {
        /// The id of the current key.
        current: KeyId,
    },
    /// The last rotation was a short time ago.
    #[error("the keys were rotated at {rotated_at}")]
    TooSoon {
        /// When.
        rotated_at: Timestamp,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for RotationError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Reads the sealed keys in order.
pub(crate) const SELECT: &str = "SELECT number, sealed FROM signing_keys ORDER BY number";

macro_rules! sealed_keys {
    ($connection:expr) => {
        sqlx::query_as::<_, (i64, Vec<u8>)>(SELECT).fetch_all($connection).await?
    };
}

macro_rules! insert_key {
    ($transaction:ident, $number:expr, $sealed:expr) => {
        sqlx::query("INSERT INTO signing_keys (number, sealed, made_at) VALUES ($1, $2, $3)")
            .bind($number)
            .bind($sealed)
            .bind(Timestamp::now().as_microsecond())
            .execute(&mut *$transaction)
            .await?
    };
}

/// Takes the lock of all writers, so that replicas wait for each other.
macro_rules! lock {
    ($transaction:ident) => {
        sqlx::query("UPDATE revision SET current = current").execute(&mut *$transaction).await?
    };
}

impl Store {
    /// The keys; a store without any gets a pair. Replicas that start at the same time make one pair.
    ///
    /// # Errors
    /// When the store fails, or the keys cannot be opened.
    pub async fn signing_keys(&self) -> Result<SigningKeys, StoreError> {
        let sealed = read_connection!(&self.database, connection => sealed_keys!(&mut *connection));
        if !sealed.is_empty() {
            return self.open_keys(&sealed);
        }
        let made = [(1, self.new_key(1)?), (2, self.new_key(2)?)];
        let sealed = noted_transaction!(self, None, transaction => {
            lock!(transaction);
            let there = sealed_keys!(&mut *transaction);
            if there.is_empty() {
                for (number, sealed) in &made {
                    insert_key!(transaction, number, sealed);
                }
                made.to_vec()
            } else {
                there
            }
        });
        self.open_keys(&sealed)
    }

    /// Makes the next key the current one, and a new next key, where the current key is still the `expected` one and
    /// the last rotation was not after `not_since`; the first one never is. The row is stored with it, with the fingerprint of the
    /// key that signs from now on as its target.
    ///
    /// # Errors
    /// When the current key is another one, the last rotation is later, the store fails, or the keys cannot be opened.
    pub async fn rotate_signing_keys(
        &self,
        expected: Option<&KeyId>,
        not_since: Option<Timestamp>,
        mut row: AuditRow,
    ) -> Result<SigningKeys, RotationError> {
        let rotated = noted_transaction!(self, None, transaction => {
            lock!(transaction);
            let SigningKeys { number, current, next } = self.open_keys(&sealed_keys!(&mut *transaction))?;
            let current = current.public().id();
            if expected.is_some_and(|expected| *expected != current) {
                transaction.rollback().await?;
                return Err(RotationError::NotCurrent { current });
            }
            // Each rotation makes one key; the first two are those of the first start.
            let rotated_at: Option<i64> = sqlx::query_scalar("SELECT MAX(made_at) FROM signing_keys WHERE number > 2")
                .fetch_one(&mut *transaction)
                .await?;
            let rotated_at = rotated_at.and_then(|at| Timestamp::from_microsecond(at).ok());
            if let Some(rotated_at) = rotated_at.filter(|at| not_since.is_some_and(|since| *at > since)) {
                transaction.rollback().await?;
                return Err(RotationError::TooSoon { rotated_at });
            }
            let new = number + 2;
            let sealed = self.new_key(new)?;
            insert_key!(transaction, new, &sealed);
            sqlx::query("DELETE FROM signing_keys WHERE number = $1").bind(number).execute(&mut *transaction).await?;
            row.resource_name = next.public().fingerprint().to_string();
            insert_audit!(row, transaction)?;
            transaction.announce_keys().await?;
            SigningKeys { number: number + 1, current: next, next: self.open_key(new, &sealed)? }
        });
        self.announce_rotation();
        Ok(rotated)
    }

    /// Changes soon after a rotation of the keys, here or at another replica. A notice can be lost.
    pub fn rotations(&self) -> watch::Receiver<u64> {
        self.rotations.subscribe()
    }

    pub(crate) fn announce_rotation(&self) {
        self.rotations.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn new_key(&self, number: i64) -> Result<Vec<u8>, StoreError> {
        let key = SigningKey::generate().map_err(|error| StoreError::Vault(error.to_string()))?;
        envelope::seal(self.keys.current(), bound_to(number).as_bytes(), key.expose())
            .map(envelope::Sealed::into_bytes)
            .map_err(|error| StoreError::Vault(error.to_string()))
    }

    fn open_keys(&self, sealed: &[(i64, Vec<u8>)]) -> Result<SigningKeys, StoreError> {
        match sealed {
            [(number, current), (next_number, next)] if number.checked_add(1) == Some(*next_number) => {
                Ok(SigningKeys {
                    number: *number,
                    current: self.open_key(*number, current)?,
                    next: self.open_key(*next_number, next)?,
                })
            }
            _ => Err(unreadable("keys", "there are not two that follow each other".to_owned())),
        }
    }

    fn open_key(&self, number: i64, sealed: &[u8]) -> Result<SigningKey, StoreError> {
        let unreadable = |reason: String| unreadable(&number.to_string(), reason);
        let opened = envelope::open(&self.keys, bound_to(number).as_bytes(), sealed)
            .map_err(|error| unreadable(error.to_string()))?;
        SigningKey::from_bytes(&opened).map_err(|error| unreadable(error.to_string()))
    }
}

/// What the sealed key is bound to, so that no row passes for another one.
pub(crate) fn bound_to(number: i64) -> String {
    format!("signing-key {number}")
}

fn unreadable(id: &str, reason: String) -> StoreError {
    StoreError::Unreadable { kind: "signing key".to_owned(), id: id.to_owned(), reason }
}
