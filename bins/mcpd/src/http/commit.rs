//! Deciding and storing as one step: a write is planned on the very snapshot that it is committed against.

use mcpctl_api::{Document, Spec};
use mcpctl_store::CommitError;

use super::{caller::Caller, error::HttpError};
use crate::{
    app::App,
    audit,
    writes::{self, Intent, Plan, Write},
};

/// Commits tried before giving up; each loser lost to a commit that went through, so progress is made all the same.
const ATTEMPTS: usize = 32;

/// Hashes the password of a user, if there is one, before anything else: it takes long and is needed once.
///
/// # Errors
/// When it cannot be hashed.
pub async fn prepare(app: &App, mut document: Document) -> Result<Write, HttpError> {
    let password = match &mut document.spec {
        Spec::User(user) => user.password.take(),
        _ => None,
    };
    let password_hash = match password {
        None => None,
        Some(password) => {
            let hashed = app.logins.hash(password.expose().to_owned()).await;
            Some(hashed.map_err(|error| HttpError::invalid("password", error.to_string()))?)
        }
    };
    Ok(Write { document, password_hash })
}

/// Plans and commits all intents, or none; the number in an error is that of the intent, from 0.
///
/// # Errors
/// A refusal, or a store that does not answer.
pub async fn commit(
    app: &App,
    mut caller: Caller,
    intents: Vec<Intent>,
    dry_run: bool,
) -> Result<Plan, (usize, HttpError)> {
    let whole = |error: HttpError| (0, error);
    for _ in 0..ATTEMPTS {
        let plan = writes::plan(&caller.snapshot, &caller.principal, app.now(), &app.store, intents.clone());
        let plan = match plan {
            Ok(plan) => plan,
            Err((at, refusal)) => {
                audit::refused_write(app, &caller, intents.get(at), &refusal).await.map_err(whole)?;
                return Err((at, refusal.into()));
            }
        };
        if dry_run || plan.changes.is_empty() {
            return Ok(plan);
        }
        let rows = audit::changes(app, &caller, &plan.changes);
        let actor = caller.principal.subject.to_string();
        match app.store.commit(caller.snapshot.revision(), &actor, plan.changes.clone(), rows).await {
            Ok(revision) => {
                tracing::info!(%revision, changes = plan.changes.len(), "resources changed");
                return Ok(plan);
            }
            // Somebody else was first: the rights and the resources may be others now, so everything is judged again.
            Err(CommitError::Moved { .. }) => caller = caller.again(app).await.map_err(whole)?,
            Err(CommitError::NameTaken { .. }) => caller = caller.again(app).await.map_err(whole)?,
            Err(CommitError::Store(error)) => return Err(whole(error.into())),
        }
    }
    Err(whole(HttpError::unavailable("too many writers at once")))
}
