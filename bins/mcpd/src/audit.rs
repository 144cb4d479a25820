//! What goes on record: every denial to somebody known, every probe, every inference, every change.
//!
//! Requests without a valid credential are counted and logged but not recorded, so that nobody unknown can fill the
//! disk. Rows are stored before the answer goes out (INVARIANT 14).

use mcpctl_access::{Change, Denied, Permit};
use mcpctl_api::{Id, Kind, Revision, Verb, spec::Subject};
use mcpctl_store::{AuditRow, Decision};

use crate::{
    app::App,
    http::{caller::Caller, error::HttpError},
    writes::{Intent, Refusal},
};

/// Records an authorization, whichever way it went.
///
/// # Errors
/// When it cannot be stored: then nothing was decided.
pub async fn decision(
    app: &App,
    caller: &Caller,
    verb: Verb,
    kind: Kind,
    target: &str,
    decision: &Result<Permit, Denied>,
) -> Result<(), HttpError> {
    match decision {
        Ok(permit) => {
            let resource = permit.resource();
            let mut row = row(app, &caller.principal.subject, verb.as_str(), kind, permit.revision());
            row.resource_id = Some(resource.id().clone());
            row.resource_name = resource.name().to_string();
            Ok(app.recorder.audit(vec![row]).await?)
        }
        Err(reason) => denied(app, caller, verb, kind, target, &reason.to_string()).await,
    }
}

/// Records a denial.
///
/// # Errors
/// When it cannot be stored.
pub async fn denied(
    app: &App,
    caller: &Caller,
    verb: Verb,
    kind: Kind,
    target: &str,
    reason: &str,
) -> Result<(), HttpError> {
    app.metrics.denied(verb.as_str(), kind.plural());
    let mut row = row(app, &caller.principal.subject, verb.as_str(), kind, caller.snapshot.revision());
    row.resource_name = bounded(target);
    row.decision = Decision::Denied;
    row.reason = reason.to_owned();
    Ok(app.recorder.audit(vec![row]).await?)
}

/// Records a write that was refused for lack of rights; other refusals are the caller's mistakes, not decisions.
///
/// # Errors
/// When it cannot be stored.
pub async fn refused_write(
    app: &App,
    caller: &Caller,
    intent: Option<&Intent>,
    refusal: &Refusal,
) -> Result<(), HttpError> {
    if !matches!(refusal, Refusal::Denied(_) | Refusal::Escalation(_) | Refusal::LastAdministrator) {
        return Ok(());
    }
    let Some((verb, kind, target)) = intent.map(Intent::describe) else { return Ok(()) };
    denied(app, caller, verb, kind, &target, &refusal.to_string()).await
}

/// The rows that go into the same transaction as the changes.
pub fn changes(app: &App, caller: &Caller, changes: &[Change]) -> Vec<AuditRow> {
    of_changes(app, &caller.principal.subject, changes)
}

/// The rows of a login: a token was made for whoever signed in.
pub fn login(app: &App, subject: &Subject, changes: &[Change]) -> Vec<AuditRow> {
    of_changes(app, subject, changes)
}

fn of_changes(app: &App, subject: &Subject, changes: &[Change]) -> Vec<AuditRow> {
    let one = |change: &Change| {
        let (action, id, name): (_, &Id, _) = match change {
            Change::Put(stored) if stored.resource.created_at == stored.resource.updated_at => {
                (Verb::Create, stored.id(), stored.name())
            }
            Change::Put(stored) => (Verb::Edit, stored.id(), stored.name()),
            Change::Delete { id, name, .. } => (Verb::Delete, id, name),
        };
        let mut row = row(app, subject, action.as_str(), change.kind(), change.revision());
        row.resource_id = Some(id.clone());
        row.resource_name = name.to_string();
        row
    };
    changes.iter().map(one).collect()
}

fn row(app: &App, subject: &Subject, action: &str, kind: Kind, revision: Revision) -> AuditRow {
    AuditRow {
        id: uuid::Uuid::now_v7(),
        at: app.now(),
        principal: subject.to_string(),
        principal_id: None,
        token_id: None,
        action: action.to_owned(),
        kind,
        resource_id: None,
        resource_name: String::new(),
        decision: Decision::Allowed,
        reason: String::new(),
        revision,
        request_id: mcpctl_server::request_id(),
    }
}

/// What a caller typed, cut to what a name could be.
fn bounded(target: &str) -> String {
    target.chars().take(64).collect()
}
