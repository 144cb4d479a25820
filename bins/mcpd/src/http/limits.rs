//! `GET /api/v1/limits/:idOrName/status`: how the counters of a Limit stand.

use axum::Json;
use mcpctl_api::{
    Kind, Spec, Verb,
    limit_status::{LimitCount, LimitStatus},
    spec::LimitScope,
};
use utoipa::OpenApi;

use super::{error::HttpError, viewed::viewed};
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
pub(super) async fn status(app: &App, caller: &Caller, target: &str) -> Result<Json<LimitStatus>, HttpError> {
    let stored = viewed(app, caller, Kind::Limit, target).await?;
    let Caller { principal, snapshot, .. } = caller;
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
