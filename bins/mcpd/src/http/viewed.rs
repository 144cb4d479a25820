//! A resource that a route shows something of.

use std::sync::Arc;

use mcpctl_access::{Stored, verb::View};
use mcpctl_api::Kind;

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
