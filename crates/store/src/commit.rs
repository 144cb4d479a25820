//! Commits changes: all or none, each with the next revision, and only on the state that they were decided on.

use jiff::Timestamp;
use mcpctl_access::{Change, Confidential};
use mcpctl_api::{Id, Kind, Name, Revision, Spec, Verb};
use mcpctl_secret::envelope;
use uuid::Uuid;

use crate::{
    canary,
    connection::{Connection, Transaction},
    database::{Database, Store, noted_transaction},
    error::StoreError,
    notices::Announce as _,
    resources::signed,
    rows::{AuditRow, Decision, insert_audit},
};

/// Who makes a commit, for its audit rows.
#[derive(Debug, Clone, Default)]
pub struct Author {
    /// The principal, e.g. `User alice`, or the part of mcpd that writes by itself.
    pub principal: String,
    /// Id of the principal, if it is an account.
    pub principal_id: Option<Id>,
    /// Id of the token that the caller presented, or that a login created.
    pub token_id: Option<Id>,
    /// Id of the request; empty if there is none.
    pub request_id: String,
}

/// Changes with the audit rows that record them, one for each change. A commit takes nothing else, so that no change is
/// stored without its row.
#[derive(Debug)]
pub struct RecordedChanges {
    base: Revision,
    actor: String,
    changes: Vec<Change>,
    audit: Vec<AuditRow>,
}

impl RecordedChanges {
    /// The changes by `author`, planned on the snapshot of revision `base`. The i-th change has revision `base + 1 + i`.
    pub fn new(base: Revision, author: Author, at: Timestamp, changes: Vec<Change>) -> Self {
        let audit = changes.iter().map(|change| audit_row(&author, at, change)).collect();
        Self { base, actor: author.principal, changes, audit }
    }

    /// The same, where these tokens got a new secret. The token is as old as its secret, so that it looks like one that is created.
    #[must_use]
    pub fn rotating(mut self, tokens: &[Id]) -> Self {
        let is_rotated = |row: &&mut AuditRow| row.resource_id.as_ref().is_some_and(|id| tokens.contains(id));
        for row in self.audit.iter_mut().filter(is_rotated) {
            ROTATE.clone_into(&mut row.action);
        }
        self
    }
}

/// The action of a token's new secret.
const ROTATE: &str = "rotate";

fn audit_row(author: &Author, at: Timestamp, change: &Change) -> AuditRow {
    // On record with every write of it, so that the audit shows who let it begin.
    let captures = match change {
        Change::Put(stored) => matches!(&stored.resource.spec, Spec::Llm(llm) if !llm.capture.is_off()),
        Change::Delete { .. } => false,
    };
    let (action, name) = match change {
        Change::Put(stored) if stored.resource.created_at == stored.resource.updated_at => {
            (Verb::Create, stored.name())
        }
        Change::Put(stored) => (Verb::Edit, stored.name()),
        Change::Delete { name, .. } => (Verb::Delete, name),
    };
    AuditRow {
        id: Uuid::now_v7(),
        at,
        principal: author.principal.clone(),
        principal_id: author.principal_id.clone(),
        token_id: author.token_id.clone(),
        action: action.as_str().to_owned(),
        kind: change.kind(),
        resource_id: Some(change.id().clone()),
        resource_name: name.to_string(),
        decision: Decision::Allowed,
        reason: if captures { "captures bodies".to_owned() } else { String::new() },
        revision: change.revision(),
        request_id: author.request_id.clone(),
    }
}

/// Why a commit failed; then it changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// Another writer committed first: plan again on the newer state.
    #[error("the store is at revision {current} already")]
    Moved {
        /// The store's revision.
        current: Revision,
    },
    /// Another resource of the kind has this name.
    #[error("there is another {kind} `{name}`")]
    NameTaken {
        /// The kind.
        kind: Kind,
        /// The name.
        name: Name,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for CommitError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Runs the statements of a commit in a transaction of either database. It rolls back and returns if it cannot commit.
macro_rules! commit_in {
    ($transaction:ident, $commit:ident) => {{
        // The update comes first: it locks the row, so that commits wait here and revisions stay gap-free.
        let moved = sqlx::query("UPDATE revision SET current = $1 WHERE current = $2")
            .bind(signed($commit.last))
            .bind(signed($commit.base))
            .execute(&mut *$transaction)
            .await?
            .rows_affected()
            == 0;
        if moved {
            let current: i64 =
                sqlx::query_scalar("SELECT current FROM revision").fetch_one(&mut *$transaction).await?;
            $transaction.rollback().await?;
            return Err(CommitError::Moved { current: Revision(current.unsigned_abs()) });
        }
        if $commit.prepared.iter().any(Prepared::is_sealed) {
            // A rotation of the master key, while this process has the earlier one: what it seals would never open again.
            let canary: Option<Vec<u8>> = sqlx::query_scalar(canary::SELECT)
                .bind(canary::KEY)
                .fetch_optional(&mut *$transaction)
                .await?;
            if !canary.is_some_and(|canary| $commit.prepared.iter().all(|row| row.is_sealed_as(&canary))) {
                $transaction.rollback().await?;
                return Err(StoreError::MasterKeyRotated.into());
            }
        }
        for row in &$commit.prepared {
            let stored = match &row.put {
                None => {
                    sqlx::query("DELETE FROM resources WHERE id = $1")
                        .bind(&row.id)
                        .execute(&mut *$transaction)
                        .await
                }
                Some((body, confidential)) => {
                    sqlx::query(
                        "INSERT INTO resources (id, kind, name, revision, body, confidential) \
                         VALUES ($1, $2, $3, $4, $5, $6) \
                         ON CONFLICT (id) DO UPDATE SET name = excluded.name, revision = excluded.revision, \
                         body = excluded.body, confidential = excluded.confidential",
                    )
                    .bind(&row.id)
                    .bind(row.kind.singular())
                    .bind(row.name.as_str())
                    .bind(row.revision)
                    .bind(body)
                    .bind(confidential)
                    .execute(&mut *$transaction)
                    .await
                }
            };
            if let Err(sqlx::Error::Database(error)) = &stored
                && error.is_unique_violation()
            {
                $transaction.rollback().await?;
                return Err(CommitError::NameTaken { kind: row.kind, name: row.name.clone() });
            }
            stored?;
            sqlx::query(
                "INSERT INTO changes (revision, kind, id, name, op, at, actor, body) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            )
            .bind(row.revision)
            .bind(row.kind.singular())
            .bind(&row.id)
            .bind(row.name.as_str())
            .bind(if row.put.is_some() { "put" } else { "delete" })
            .bind($commit.now)
            .bind($commit.actor)
            .bind(row.put.as_ref().map(|(body, _)| body))
            .execute(&mut *$transaction)
            .await?;
        }
        for row in $commit.audit {
            insert_audit!(row.clone(), $transaction)?;
        }
        $transaction.announce($commit.last).await?;
    }};
}

/// A commit whose changes are checked and converted to columns.
struct Checked<'a> {
    base: Revision,
    last: Revision,
    actor: &'a str,
    prepared: Vec<Prepared>,
    audit: &'a [AuditRow],
    now: i64,
}

impl<'a> Checked<'a> {
    fn new(commit: &'a RecordedChanges) -> Result<Self, StoreError> {
        let RecordedChanges { base, actor, changes, audit } = commit;
        let mut last = *base;
        for change in changes {
            last = last.next();
            if change.revision() != last {
                let reason = format!("a change of revision {} where {last} is next", change.revision());
                let (kind, id) = (change.kind().to_string(), change.id().to_string());
                return Err(StoreError::Unreadable { kind, id, reason });
            }
        }
        let prepared = changes.iter().map(Prepared::new).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { base: *base, last, actor, prepared, audit, now: Timestamp::now().as_microsecond() })
    }
}

/// The lock that every commit to a shared database takes, held while its writer still plans. It is released by the
/// commit, by a drop, or by the database after 10 s (`idle_in_transaction_session_timeout`).
pub struct WriteLock(Option<Transaction<sqlx::Postgres>>);

impl Store {
    /// Applies all changes and their audit rows, or none, if the store is still at the revision that they were planned on.
    ///
    /// # Errors
    /// When the store moved on, a name is taken, or the database fails.
    pub async fn commit(&self, changes: RecordedChanges) -> Result<Revision, CommitError> {
        let commit = Checked::new(&changes)?;
        noted_transaction!(self, Some(commit.last), transaction => commit_in!(transaction, commit));
        Ok(commit.last)
    }

    /// Waits until no other replica commits, then blocks the commits of others. For a writer that lost to others: what it
    /// plans on a snapshot read from now on can be committed. A no-op on SQLite, which has one process.
    ///
    /// # Errors
    /// When the database does not respond, or the lock is not free in time.
    pub async fn lock_writes(&self) -> Result<WriteLock, StoreError> {
        let Database::Postgres(pool) = &self.database else { return Ok(WriteLock(None)) };
        let mut transaction =
            Transaction::<sqlx::Postgres>::begin(Connection::acquire(pool).await?, "BEGIN").await?;
        sqlx::query("SELECT current FROM revision FOR UPDATE").execute(&mut *transaction).await?;
        Ok(WriteLock(Some(transaction)))
    }

    /// As [`Store::commit`], by the holder of the lock.
    ///
    /// # Errors
    /// When the store moved on, a name is taken, or the database fails.
    pub async fn commit_locked(
        &self,
        lock: WriteLock,
        changes: RecordedChanges,
    ) -> Result<Revision, CommitError> {
        let Some(mut transaction) = lock.0 else { return self.commit(changes).await };
        let commit = Checked::new(&changes)?;
        commit_in!(transaction, commit);
        transaction.commit_noting(self.commits.begin(), Some(commit.last)).await?;
        Ok(commit.last)
    }
}

/// A change, converted to columns.
struct Prepared {
    id: String,
    kind: Kind,
    name: Name,
    revision: i64,
    put: Option<(String, Option<Vec<u8>>)>,
}

impl Prepared {
    fn sealed(&self) -> Option<&[u8]> {
        let (_, confidential) = self.put.as_ref()?;
        confidential.as_deref().filter(|_| self.kind == Kind::Secret)
    }

    fn is_sealed(&self) -> bool {
        self.sealed().is_some()
    }

    /// Whether it needs the master key that another value was sealed with, or none.
    fn is_sealed_as(&self, other: &[u8]) -> bool {
        self.sealed().is_none_or(|sealed| {
            matches!((envelope::key_id(sealed), envelope::key_id(other)), (Ok(one), Ok(other)) if one == other)
        })
    }

    fn new(change: &Change) -> Result<Self, StoreError> {
        let (kind, id, revision) = (change.kind(), change.id().to_string(), signed(change.revision()));
        let (name, put) = match change {
            Change::Delete { name, .. } => (name.clone(), None),
            Change::Put(stored) => {
                let body =
                    serde_json::to_string(&stored.resource).map_err(|error| StoreError::Unreadable {
                        kind: kind.to_string(),
                        id: id.clone(),
                        reason: error.to_string(),
                    })?;
                let confidential = stored.confidential.clone().map(|confidential| match confidential {
                    Confidential::TokenHash(hash) => hash.to_vec(),
                    Confidential::PasswordHash(hash) => hash.into_bytes(),
                    Confidential::Sealed(sealed) => sealed,
                });
                (stored.name().clone(), Some((body, confidential)))
            }
        };
        Ok(Self { id, kind, name, revision, put })
    }
}
