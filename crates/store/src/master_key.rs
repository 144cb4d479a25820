//! The rotation of the master key: everything that is sealed is sealed anew, in one transaction.

use std::fmt;

use jiff::Timestamp;
use mcpctl_api::{Kind, Revision};
use mcpctl_secret::envelope::{self, KeyId, Keyring, MasterKey};
use uuid::Uuid;

use crate::{
    canary,
    database::{Store, noted_transaction, read_connection},
    error::StoreError,
    rows::{AuditRow, Decision, insert_audit},
    signing_keys,
};

/// How many values were sealed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resealed {
    /// Secrets.
    pub secrets: usize,
    /// Signing keys.
    pub signing_keys: usize,
}

impl fmt::Display for Resealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { secrets, signing_keys } = self;
        let plural = if *secrets == 1 { "" } else { "s" };
        write!(f, "{secrets} secret{plural} and {signing_keys} signing keys")
    }
}

impl Store {
    /// The id of the master key that seals new values.
    pub fn master_key(&self) -> KeyId {
        self.keys.current().id()
    }

    /// Fails where the store was sealed anew with another master key than this process has.
    ///
    /// # Errors
    /// When it was, or the database does not answer.
    pub async fn check_master_key(&self) -> Result<(), StoreError> {
        let sealed: Option<Vec<u8>> = read_connection!(&self.database, connection => {
            sqlx::query_scalar(canary::SELECT).bind(canary::KEY).fetch_optional(&mut *connection).await?
        });
        match sealed.map(|sealed| envelope::key_id(&sealed)) {
            Some(Ok(id)) if id == self.master_key() => Ok(()),
            _ => Err(StoreError::MasterKeyRotated),
        }
    }

    /// Seals everything anew with another master key, with a row of the audit. From then on this store has the new key.
    ///
    /// # Errors
    /// When a value does not open with the present key, or the database fails; then nothing was changed.
    pub async fn rotate_master_key(&self, next: MasterKey) -> Result<Resealed, StoreError> {
        let next = Keyring::new(next);
        let reseal = |place: &str, bound_to: &[u8], sealed: &[u8]| {
            let failed = |error: String| StoreError::Vault(format!("{place}: {error}"));
            let plain =
                envelope::open(&self.keys, bound_to, sealed).map_err(|error| failed(error.to_string()))?;
            let sealed = envelope::seal(next.current(), bound_to, &plain);
            sealed.map(envelope::Sealed::into_bytes).map_err(|error| failed(error.to_string()))
        };
        Ok(noted_transaction!(self, None, transaction => {
            // Takes the lock of all writers.
            sqlx::query("UPDATE revision SET current = current").execute(&mut *transaction).await?;
            let secrets: Vec<(String, String, Vec<u8>)> = sqlx::query_as(
                "SELECT id, name, confidential FROM resources WHERE kind = $1 AND confidential IS NOT NULL ORDER BY id",
            )
            .bind(Kind::Secret.singular())
            .fetch_all(&mut *transaction)
            .await?;
            for (id, name, sealed) in &secrets {
                let sealed = reseal(&format!("secret `{name}`"), id.as_bytes(), sealed)?;
                sqlx::query("UPDATE resources SET confidential = $2 WHERE id = $1")
                    .bind(id)
                    .bind(sealed)
                    .execute(&mut *transaction)
                    .await?;
            }
            let keys: Vec<(i64, Vec<u8>)> =
                sqlx::query_as(signing_keys::SELECT).fetch_all(&mut *transaction).await?;
            for (number, sealed) in &keys {
                let bound_to = signing_keys::bound_to(*number);
                let sealed = reseal(&bound_to, bound_to.as_bytes(), sealed)?;
                sqlx::query("UPDATE signing_keys SET sealed = $2 WHERE number = $1")
                    .bind(number)
                    .bind(sealed)
                    .execute(&mut *transaction)
                    .await?;
            }
            sqlx::query("UPDATE settings SET value = $2 WHERE key = $1")
                .bind(canary::KEY)
                .bind(canary::seal(&next)?)
                .execute(&mut *transaction)
                .await?;
            let revision: i64 =
                sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut *transaction).await?;
            insert_audit!(audit_row(next.current().id(), Revision(revision.unsigned_abs())), transaction)?;
            Resealed { secrets: secrets.len(), signing_keys: keys.len() }
        }))
    }
}

fn audit_row(key: KeyId, revision: Revision) -> AuditRow {
    AuditRow {
        id: Uuid::now_v7(),
        at: Timestamp::now(),
        principal: "mcpd rotate-master-key".to_owned(),
        principal_id: None,
        token_id: None,
        action: "rotate-master-key".to_owned(),
        // There is no kind for mcpd itself.
        kind: Kind::Secret,
        resource_id: None,
        resource_name: key.to_string(),
        decision: Decision::Allowed,
        reason: String::new(),
        revision,
        request_id: String::new(),
    }
}
