//! What goes on record: every denial to an authenticated caller, every probe, every inference, every change, every
//! refused login.
//!
//! Other requests without a valid credential are counted and logged but not recorded. Rows are stored before the answer
//! goes out (INVARIANT 14); of what is repeated beyond a rate, the first row and the number (see [`ledger`]).

mod ledger;

use std::{sync::Arc, time::Duration};

use mcpctl_access::{Change, Denied, Permit};
use mcpctl_api::{Id, Kind, Name, Revision, Verb, spec::Subject};
use mcpctl_store::{AuditRow, Decision};

use crate::{
    app::App,
    http::{caller::Caller, error::HttpError},
    login::Network,
    writes::{Intent, Refusal},
};

pub use ledger::Ledger;
use ledger::Tenant;

/// How often sums are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Rows of sums that are kept while the store does not take them.
const MAX_UNSTORED: usize = 10_000;
/// Characters of a text that callers chose.
const MAX_CHARS: usize = 512;

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
            let mut row = row(app, &Who::of(caller), verb.as_str(), kind, permit.revision());
            row.resource_id = Some(resource.id().clone());
            row.resource_name = resource.name().to_string();
            if verb == Verb::Run {
                // An inference has a row, however many there are.
                return Ok(app.recorder.audit(vec![row]).await?);
            }
            enter(app, Tenant::Principal(caller.principal.id.clone()), row).await
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
    let mut row = row(app, &Who::of(caller), verb.as_str(), kind, caller.snapshot.revision());
    row.resource_name = shown(target);
    row.decision = Decision::Denied;
    row.reason = shown(reason);
    enter(app, Tenant::Principal(caller.principal.id.clone()), row).await
}

/// Records a refused login. A text that is no name is not stored: it may be a password that was typed into the wrong
/// field.
///
/// # Errors
/// When it cannot be stored.
pub async fn refused_login(
    app: &App,
    user: Option<&Name>,
    revision: Revision,
    network: Network,
    reason: &str,
) -> Result<(), HttpError> {
    app.metrics.denied("login", Kind::User.plural());
    let name = user.map_or("(not a name)", Name::as_str);
    let who = Who { principal: format!("User {name}"), id: None, token: None };
    let mut row = row(app, &who, "login", Kind::User, revision);
    row.resource_name = name.to_owned();
    row.decision = Decision::Denied;
    row.reason = format!("{reason}, from {network}");
    enter(app, Tenant::Network(network), row).await
}

/// Stores a row, or counts it.
async fn enter(app: &App, tenant: Tenant, row: AuditRow) -> Result<(), HttpError> {
    match app.ledger.enter(tenant, row) {
        Some(row) => Ok(app.recorder.audit(vec![row]).await?),
        None => Ok(()),
    }
}

/// Stores sums when their windows end; ends with the daemon.
pub fn start(app: &Arc<App>) {
    let app = Arc::clone(app);
    tokio::spawn(async move {
        let mut unstored = Vec::new();
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            unstored.extend(app.ledger.ended(app.now(), false));
            if unstored.is_empty() {
                continue;
            }
            match app.recorder.audit(unstored.clone()).await {
                Ok(()) => unstored.clear(),
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "sums of the audit are not stored"
                    );
                    unstored.truncate(MAX_UNSTORED);
                }
            }
        }
    });
}

/// Stores all sums, before the daemon ends.
pub async fn finish(app: &App) {
    let rows = app.ledger.ended(app.now(), true);
    if rows.is_empty() {
        return;
    }
    if let Err(error) = app.recorder.audit(rows).await {
        tracing::error!(error = &error as &dyn std::error::Error, "sums of the audit are not stored");
    }
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
    of_changes(app, &Who::of(caller), changes)
}

/// The rows of a login: a token was made for the user who signed in.
pub fn login(app: &App, subject: &Subject, id: &Id, changes: &[Change]) -> Vec<AuditRow> {
    let token = changes.iter().find(|change| change.kind() == Kind::Token).map(|change| change.id().clone());
    of_changes(app, &Who { principal: subject.to_string(), id: Some(id.clone()), token }, changes)
}

/// The principal of a row.
struct Who {
    principal: String,
    id: Option<Id>,
    token: Option<Id>,
}

impl Who {
    fn of(caller: &Caller) -> Self {
        let principal = &caller.principal;
        Self {
            principal: principal.subject.to_string(),
            id: Some(principal.id.clone()),
            token: Some(principal.token.clone()),
        }
    }
}

fn of_changes(app: &App, who: &Who, changes: &[Change]) -> Vec<AuditRow> {
    let one = |change: &Change| {
        let (action, id, name): (_, &Id, _) = match change {
            Change::Put(stored) if stored.resource.created_at == stored.resource.updated_at => {
                (Verb::Create, stored.id(), stored.name())
            }
            Change::Put(stored) => (Verb::Edit, stored.id(), stored.name()),
            Change::Delete { id, name, .. } => (Verb::Delete, id, name),
        };
        let mut row = row(app, who, action.as_str(), change.kind(), change.revision());
        row.resource_id = Some(id.clone());
        row.resource_name = name.to_string();
        row
    };
    changes.iter().map(one).collect()
}

fn row(app: &App, who: &Who, action: &str, kind: Kind, revision: Revision) -> AuditRow {
    AuditRow {
        id: uuid::Uuid::now_v7(),
        at: app.now(),
        principal: who.principal.clone(),
        principal_id: who.id.clone(),
        token_id: who.token.clone(),
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

/// What a caller typed, cut before it is copied any further; the store bounds it to its column.
fn shown(text: &str) -> String {
    text.chars().take(MAX_CHARS).collect()
}
