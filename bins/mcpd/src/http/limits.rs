//! `GET /api/v1/limits/:idOrName/status`: how the counters of a Limit stand.

use std::sync::Arc;

use axum::{Json, extract::State};
use mcpctl_access::verb::View;
use mcpctl_api::{
    Kind, Spec, Verb,
    limit_status::{LimitCount, LimitStatus},
    spec::LimitScope,
};
use utoipa::OpenApi;

use super::{error::HttpError, path::Path, resources};
use crate::{app::App, caller::Caller, limits};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(status))]
pub struct Docs;

/// Shows how much of a Limit is used, to those who may view it
#[utoipa::path(
    get, path = "/api/v1/limits/{idOrName}/status", tag = "resources",
    params(("idOrName" = String, Path)),
    responses((status = 200, body = LimitStatus), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 404, body = mcpctl_api::ApiError)),
)]
pub async fn status(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((segment, target)): Path<(String, String)>,
) -> Result<Json<LimitStatus>, HttpError> {
    if resources::kind(&segment)? != Kind::Limit {
        return Err(HttpError::no_route(&format!("/api/v1/{segment}/{target}/status")));
    }
    let Caller { principal, snapshot, .. } = &caller;
    let decision = snapshot.authorize::<View>(principal, Kind::Limit, &target);
    if decision.is_err() {
        let entry = app.audit.decision(principal, Kind::Limit, &target, snapshot.revision(), &decision);
        app.audit.record(entry).await?;
    }
    let stored = decision?.into_resource();
    let Spec::Limit(limit) = &stored.resource.spec else { return Err(HttpError::internal()) };
    let (counts, more) = limits::status::counts(&app.store, stored.id(), limit).await?;
    let (mut counters, mut hidden) = (Vec::new(), more);
    for count in counts {
        let subject = match (&count.subject, limit.per) {
            (None, LimitScope::All) => None,
            (Some(id), LimitScope::Subject) => {
                let account = snapshot.by_id(id).filter(|account| {
                    let (kind, name) = (account.kind(), account.name().as_str());
                    account.id() == &principal.id
                        || snapshot.authorize_name(principal, Verb::View, kind, name).is_ok()
                });
                let Some(subject) = account.and_then(|account| account.as_subject()) else {
                    hidden += 1;
                    continue;
                };
                Some(subject)
            }
            // Of the time when the Limit was shared in another way.
            _ => continue,
        };
        counters.push(LimitCount::new(subject, &count.ceiling, count.used, count.resets_at));
    }
    Ok(Json(LimitStatus { limit: stored.name().clone(), counters, hidden }))
}
