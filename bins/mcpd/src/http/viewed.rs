//! What a route shows something of: one resource, or all of a kind.

use std::sync::Arc;

use mcpctl_access::{Stored, verb::View};
use mcpctl_api::{Kind, Verb};

use super::error::HttpError;
use crate::{app::App, caller::Caller};

/// The resource, for a caller who may view it; a denial is recorded.
pub async fn viewed(app: &App, caller: &Caller, kind: Kind, target: &str) -> Result<Arc<Stored>, HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    let decision = snapshot.authorize::<View>(principal, kind, target);
    if decision.is_err() {
        let entry = app.audit.decision(principal, kind, target, snapshot.revision(), &decision);
        app.audit.record(entry).await?;
    }
    Ok(decision?.into_resource())
}

/// Whether the caller may view all resources of the kind; a denial is recorded.
///
/// # Errors
/// The denial.
pub async fn check_views_all(app: &App, caller: &Caller, kind: Kind) -> Result<(), HttpError> {
    let Caller { principal, snapshot, .. } = caller;
    if let Err(denied) = snapshot.authorize_all(principal, Verb::View, kind) {
        let (revision, reason) = (snapshot.revision(), denied.to_string());
        app.audit.record(app.audit.denial(principal, Verb::View, kind, "*", revision, &reason)).await?;
        return Err(denied.into());
    }
    Ok(())
}
