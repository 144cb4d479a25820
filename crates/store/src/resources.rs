//! Reads all resources at one revision, and the changes since a revision.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use mcpctl_access::{Change, Confidential, Snapshot, Stored};
use mcpctl_api::{Kind, Resource, Revision};
use sqlx::Row as _;

use crate::{
    database::{Store, parse_kind, read_connection, read_transaction, write_transaction_of},
    durability::Durability,
    error::StoreError,
};

/// The result of reading changes since a revision.
#[derive(Debug, Clone, PartialEq)]
pub enum Feed {
    /// The changes, in order.
    Changes {
        /// The revision after these changes.
        up_to: Revision,
        /// At most the requested number, in order of revision.
        changes: Vec<Change>,
    },
    /// The changes are no longer kept: load all resources instead.
    Compacted,
}

/// A row of `resources`, in either database.
pub(crate) struct StoredRow {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) body: String,
    pub(crate) confidential: Option<Vec<u8>>,
}

impl StoredRow {
    pub(crate) fn read(self) -> Result<Arc<Stored>, StoreError> {
        let unreadable =
            |reason: String| StoreError::Unreadable { kind: self.kind.clone(), id: self.id.clone(), reason };
        let kind = parse_kind(&self.kind, &self.id)?;
        let resource =
            Resource::from_json_as(kind, &self.body).map_err(|error| unreadable(error.to_string()))?;
        let confidential = match self.confidential {
            None => None,
            Some(bytes) => Some(
                confidential(resource.kind(), bytes)
                    .ok_or_else(|| unreadable("its confidential part is malformed".to_owned()))?,
            ),
        };
        Ok(Arc::new(Stored { resource, confidential }))
    }
}

fn confidential(kind: Kind, bytes: Vec<u8>) -> Option<Confidential> {
    match kind {
        Kind::Token => bytes.try_into().ok().map(Confidential::TokenHash),
        Kind::User => String::from_utf8(bytes).ok().map(Confidential::PasswordHash),
        Kind::Secret => Some(Confidential::Sealed(bytes)),
        _ => None,
    }
}

/// What has to be newest in whatever a replica answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    /// The revision of the last change.
    pub revision: Revision,
    /// The number of the current signing key; 0 where there is none yet.
    pub signing_key: i64,
}

impl Store {
    /// The revision of the last change; one small read.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn current_revision(&self) -> Result<Revision, StoreError> {
        let current: i64 = read_connection!(&self.database, connection => {
            sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut *connection).await?
        });
        Ok(Revision(current.unsigned_abs()))
    }

    /// The revision of the last change, and the key that signs; one small read.
    pub(crate) async fn head(&self) -> Result<Head, StoreError> {
        const HEAD: &str =
            "SELECT current, COALESCE((SELECT MIN(number) FROM signing_keys), 0) FROM revision";
        let (current, signing_key): (i64, i64) = read_connection!(&self.database, connection => {
            sqlx::query_as(HEAD).fetch_one(&mut *connection).await?
        });
        Ok(Head { revision: Revision(current.unsigned_abs()), signing_key })
    }

    /// Every resource at one revision.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn load(&self) -> Result<Snapshot, StoreError> {
        macro_rules! load {
            ($transaction:ident) => {{
                let current: i64 =
                    sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut *$transaction).await?;
                let mut snapshot = Snapshot::new(Revision(current.unsigned_abs()), []);
                // Row by row, while the database reads the next ones, and so that their texts are not all in memory at once.
                let query = sqlx::query("SELECT id, kind, body, confidential FROM resources");
                let mut rows = query.fetch(&mut *$transaction);
                while let Some(row) = rows.try_next().await? {
                    let row = StoredRow {
                        id: row.try_get("id")?,
                        kind: row.try_get("kind")?,
                        body: row.try_get("body")?,
                        confidential: row.try_get("confidential")?,
                    };
                    snapshot.load(row.read()?);
                }
                drop(rows);
                $transaction.commit().await?;
                snapshot
            }};
        }
        // One transaction, so that revision and rows belong together.
        Ok(read_transaction!(&self.database, transaction => load!(transaction)))
    }

    /// The changes after a revision, at most `limit`. A resource that changed several times is reported once, at its last
    /// change.
    ///
    /// # Errors
    /// When the database does not answer or a row cannot be read.
    pub async fn changes_since(&self, since: Revision, limit: usize) -> Result<Feed, StoreError> {
        macro_rules! changes {
            ($transaction:ident) => {{
                let current: i64 =
                    sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut *$transaction).await?;
                let oldest: Option<i64> =
                    sqlx::query_scalar("SELECT MIN(revision) FROM changes").fetch_one(&mut *$transaction).await?;
                let rows = sqlx::query(
                    "SELECT c.revision, c.kind, c.id, c.name, c.op, r.revision AS last, r.body, r.confidential \
                     FROM changes c LEFT JOIN resources r ON r.id = c.id \
                     WHERE c.revision > $1 ORDER BY c.revision LIMIT $2",
                )
                .bind(signed(since))
                .bind(i64::try_from(limit).unwrap_or(i64::MAX))
                .fetch_all(&mut *$transaction)
                .await?;
                let rows = rows
                    .iter()
                    .map(|row| {
                        Ok(ChangeRow {
                            revision: row.try_get("revision")?,
                            kind: row.try_get("kind")?,
                            id: row.try_get("id")?,
                            name: row.try_get("name")?,
                            op: row.try_get("op")?,
                            last: row.try_get("last")?,
                            body: row.try_get("body")?,
                            confidential: row.try_get("confidential")?,
                        })
                    })
                    .collect::<Result<Vec<_>, sqlx::Error>>()?;
                $transaction.commit().await?;
                (current, oldest, rows)
            }};
        }
        let (current, oldest, rows) = read_transaction!(&self.database, transaction => changes!(transaction));
        let next = signed(since) + 1;
        let reaches_back = next > current || oldest.is_some_and(|oldest| oldest <= next);
        if !reaches_back {
            return Ok(Feed::Compacted);
        }
        let up_to = match rows.last() {
            Some(last) if rows.len() >= limit => Revision(last.revision.unsigned_abs()),
            _ => Revision(current.unsigned_abs()),
        };
        let mut changes = Vec::new();
        for row in rows {
            if let Some(change) = row.read()? {
                changes.push(change);
            }
        }
        Ok(Feed::Changes { up_to, changes })
    }

    /// Deletes changes older than `retention`, except the latest one, and returns how many. The resources stay.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn compact(&self, retention: Duration) -> Result<u64, StoreError> {
        let retention = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
        let before = Timestamp::now().as_microsecond().saturating_sub(retention);
        Ok(write_transaction_of!(&self.database, Durability::Crash, transaction => {
            sqlx::query(
                "DELETE FROM changes WHERE at < $1 AND revision < (SELECT current FROM revision)",
            )
            .bind(before)
            .execute(&mut *transaction)
            .await?
            .rows_affected()
        }))
    }
}

struct ChangeRow {
    revision: i64,
    kind: String,
    id: String,
    name: String,
    op: String,
    last: Option<i64>,
    body: Option<String>,
    confidential: Option<Vec<u8>>,
}

impl ChangeRow {
    fn read(self) -> Result<Option<Change>, StoreError> {
        let unreadable =
            |reason: String| StoreError::Unreadable { kind: self.kind.clone(), id: self.id.clone(), reason };
        if self.op == "delete" {
            return Ok(Some(Change::Delete {
                kind: parse_kind(&self.kind, &self.id)?,
                id: self.id.parse().map_err(|error| unreadable(format!("{error}")))?,
                name: self.name.parse().map_err(|error| unreadable(format!("{error}")))?,
                revision: Revision(self.revision.unsigned_abs()),
            }));
        }
        match (self.last, self.body) {
            (Some(last), Some(body)) if last == self.revision => {
                let row = StoredRow { id: self.id, kind: self.kind, body, confidential: self.confidential };
                row.read().map(|stored| Some(Change::Put(stored)))
            }
            // A later change reports the resource, or its deletion.
            _ => Ok(None),
        }
    }
}

pub(crate) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
