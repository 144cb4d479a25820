//! What a dry run states besides its plan: what accounts would lose by it.

use std::sync::Arc;

use mcpctl_access::Change;
use mcpctl_api::Kind;

use super::{error::HttpError, rights};
use crate::{app::App, caller::Caller, consequences, record_questions::NoAnswer, writes::Plan};

/// Adds what accounts would lose to the warnings of a plan; `planned_by` is the caller of a dry run. Nothing is added for a caller who may
/// not view the rights of all accounts.
///
/// # Errors
/// When the work panics.
pub async fn warn_of_losses(
    app: &Arc<App>,
    planned_by: Option<Caller>,
    plan: &mut Plan,
) -> Result<(), HttpError> {
    let Some(caller) = planned_by.filter(|caller| rights::may_view_rights(caller).is_ok()) else {
        return Ok(());
    };
    if !plan.changes.iter().any(is_about_rights) {
        return Ok(());
    }
    match consequences::losses(app, caller, plan.after.clone()).await {
        Ok(losses) => plan.warnings.extend(losses),
        // The dry run itself has its answer.
        Err(NoAnswer::NoTurn(error)) => {
            plan.warnings.push(format!("what accounts would lose is not known: {error}"));
        }
        Err(error @ NoAnswer::Panicked(_)) => return Err(error.into()),
    }
    Ok(())
}

fn is_about_rights(change: &Change) -> bool {
    let kind = match change {
        Change::Put(stored) => stored.kind(),
        Change::Delete { kind, .. } => *kind,
    };
    matches!(kind, Kind::Role | Kind::RoleBinding | Kind::Group | Kind::User | Kind::ServiceAccount)
}
