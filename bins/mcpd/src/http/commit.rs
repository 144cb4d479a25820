//! Deciding and storing as one step: a write is planned on the very snapshot that it is committed against.

use std::time::Instant;

use axum::http::StatusCode;
use mcpctl_access::{Change, Snapshot};
use mcpctl_api::{
    ErrorKind, Spec,
    spec::{NewPassword, UserSpec},
};
use mcpctl_store::{AuditRow, CommitError, Store, WriteLock};

use super::{caller::Caller, error::HttpError};
use crate::{
    app::App,
    audit,
    writers::{Admission, Lane},
    writes::{self, Intent, Plan, Write},
};

/// Commits tried before giving up. From [`LOCKED_FROM`] on the store is locked first, so a second failure is the store's.
pub(super) const ATTEMPTS: usize = 8;
/// Writers of this process take turns, so only those of other replicas can be first; after so many losses the store's
/// lock is taken before planning.
pub(super) const LOCKED_FROM: usize = 2;

/// Plans and commits all intents, or none; the number in an error is that of the intent, from 0.
///
/// # Errors
/// A refusal, or a store that does not answer.
pub async fn commit(
    app: &App,
    caller: Caller,
    mut intents: Vec<Intent>,
    dry_run: bool,
) -> Result<Plan, (usize, HttpError)> {
    let whole = |error: HttpError| (0, error);
    let _admission = admit(app, &caller).map_err(whole)?;
    // Judged before anything that costs more than reading: a caller without rights causes no hashing and no queueing.
    let plan = plan(app, &caller, &intents).await?;
    if dry_run || plan.changes.is_empty() {
        return Ok(plan);
    }
    hash_passwords(app, &mut intents).await?;
    let deletes = intents.iter().all(|intent| matches!(intent, Intent::Delete { .. }));
    let lane = if deletes { Lane::Urgent } else { lane(&caller) };
    let mut attempts = Attempts::begin(app, lane, &caller).await;
    while let Some((caller, lock)) = attempts.next().await.map_err(whole)? {
        let plan = self::plan(app, &caller, &intents).await?;
        if plan.changes.is_empty() {
            return Ok(plan);
        }
        let rows = audit::changes(app, &caller, &plan.changes);
        let changes = plan.changes.clone();
        if try_commit(&app.store, lock, &caller, changes, rows).await.map_err(whole)? {
            let revision = plan.after.revision();
            tracing::info!(%revision, changes = plan.changes.len(), "resources changed");
            return Ok(plan);
        }
    }
    Err(whole(HttpError::unavailable("too many writers at once")))
}

/// Counts the write, or refuses a principal who writes too much.
pub(super) fn admit<'a>(app: &'a App, caller: &Caller) -> Result<Admission<'a>, HttpError> {
    app.writers.admit(&caller.principal.id, Instant::now()).map_err(|wait| {
        let seconds = wait.as_secs_f64().ceil().max(1.0);
        let message = format!("too many changes by one account; try again in {seconds} s");
        HttpError::new(StatusCode::TOO_MANY_REQUESTS, ErrorKind::RateLimitError, "too_many_writes", message)
            .retry_after(wait)
            .hint("put many documents into one `mcpctl apply`, or raise `limits.writes`")
    })
}

/// The lane of a caller whose write is no deletion.
pub(super) fn lane(caller: &Caller) -> Lane {
    if caller.snapshot.holds_everything(&caller.principal) { Lane::Urgent } else { Lane::Ordinary }
}

async fn plan(app: &App, caller: &Caller, intents: &[Intent]) -> Result<Plan, (usize, HttpError)> {
    let planned = writes::plan(&caller.snapshot, &caller.principal, app.now(), &app.store, intents.to_vec());
    match planned {
        Ok(plan) => Ok(plan),
        Err((at, refusal)) => {
            audit::refused_write(app, caller, intents.get(at), &refusal).await.map_err(|e| (0, e))?;
            Err((at, refusal.into()))
        }
    }
}

/// Hashes every new password, outside of the turn: it takes long.
async fn hash_passwords(app: &App, intents: &mut [Intent]) -> Result<(), (usize, HttpError)> {
    for (at, intent) in intents.iter_mut().enumerate() {
        let (Intent::Create(write) | Intent::Apply(write) | Intent::Replace { write, .. }) = intent else {
            continue;
        };
        let Write { document, password_hash } = write;
        if let Spec::User(UserSpec { password: NewPassword::Set(password), .. }) = &document.spec {
            let hashed = app.logins.hash(password.expose().to_owned()).await;
            let hashed = hashed.map_err(|error| {
                let busy = error.is::<crate::login::Busy>();
                let message = error.to_string();
                let error = if busy {
                    HttpError::unavailable(&message)
                } else {
                    HttpError::invalid("password", message)
                };
                (at, error)
            })?;
            *password_hash = Some(hashed);
        }
    }
    Ok(())
}

/// Attempts at a commit, within the turn of this writer. Each begins with the caller in the latest state: rights and
/// resources may be others now.
pub(super) struct Attempts<'a> {
    app: &'a App,
    caller: &'a Caller,
    count: usize,
    _turn: crate::writers::Turn<'a>,
}

impl<'a> Attempts<'a> {
    /// Waits for the turn.
    pub(super) async fn begin(app: &'a App, lane: Lane, caller: &'a Caller) -> Self {
        Self { app, caller, count: 0, _turn: app.writers.turn(lane).await }
    }

    /// The caller in the latest state, and the lock of the store where earlier attempts lost; nothing after too many.
    ///
    /// # Errors
    /// When the credential is no longer good, or the store does not answer.
    pub(super) async fn next(&mut self) -> Result<Option<(Caller, Option<WriteLock>)>, HttpError> {
        if self.count >= ATTEMPTS {
            return Ok(None);
        }
        let lock = if self.count >= LOCKED_FROM { Some(self.app.store.lock_writes().await?) } else { None };
        self.count += 1;
        Ok(Some((self.caller.again(self.app).await?, lock)))
    }
}

/// Whether it was stored; not, where another replica was first.
pub(super) async fn try_commit(
    store: &Store,
    lock: Option<WriteLock>,
    caller: &Caller,
    changes: Vec<Change>,
    rows: Vec<AuditRow>,
) -> Result<bool, HttpError> {
    let (snapshot, actor): (&Snapshot, _) = (&caller.snapshot, caller.principal.subject.to_string());
    let committed = match lock {
        None => store.commit(snapshot.revision(), &actor, changes, rows).await,
        Some(lock) => store.commit_locked(lock, snapshot.revision(), &actor, changes, rows).await,
    };
    match committed {
        Ok(_) => Ok(true),
        Err(CommitError::Moved { .. } | CommitError::NameTaken { .. }) => Ok(false),
        Err(CommitError::Store(error)) => Err(error.into()),
    }
}
