//! `GET /api/v1/<kind>/:idOrName/status`: what changes by itself, of a Limit its counters, of an Llm its breakers and
//! void keys, of a token whether it is accepted; and what Llms are doing. To those who may view the resource.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use mcpctl_access::{Permit, Stored, verb::View};
use mcpctl_api::{
    Kind, Spec, Verb,
    activity::{Activity, LlmActivity},
    breaker_status::{BreakerState, BreakerStatus, LlmState, LlmStatus, VoidKey},
    question::List,
};
use utoipa::OpenApi;

use super::{
    error::HttpError,
    limits,
    path::{self, Path},
    query::{ListQuery, Page, Query},
    token_status,
    viewed::viewed,
};
use crate::{app::App, caller::Caller};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(llm, llms, activity))]
pub struct Docs;

/// The status of a resource whose kind has one.
pub async fn status(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((segment, target)): Path<(String, String)>,
) -> Result<Response, HttpError> {
    match path::kind(&segment)? {
        Kind::Limit => Ok(limits::status(&app, &caller, &target).await?.into_response()),
        Kind::Llm => Ok(llm(&app, &caller, &target).await?.into_response()),
        Kind::Token => Ok(token_status::one(&app, &caller, &target).await?.into_response()),
        _ => Err(HttpError::no_route(&format!("/api/v1/{segment}/{target}/status"))),
    }
}

/// Shows the breakers of an Llm's upstreams, as the replica that answers knows them, and keys that are void
#[utoipa::path(
    get, path = "/api/v1/llms/{idOrName}/status", tag = "resources",
    params(("idOrName" = String, Path)),
    responses((status = 200, body = LlmStatus), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 404, body = mcpctl_api::ApiError)),
)]
async fn llm(app: &App, caller: &Caller, target: &str) -> Result<Json<LlmStatus>, HttpError> {
    Ok(Json(status_of(app, caller, &*viewed(app, caller, Kind::Llm, target).await?)))
}

/// Shows the status of every Llm that the caller may view, as of the replica that answers, ordered by name and in pages as the Llms are
#[utoipa::path(
    get, path = "/api/v1/llm-status", tag = "resources",
    params(("after" = Option<String>, Query, description = "`next` of the page before"),
           ("limit" = Option<u32>, Query, description = "1 to 1000; with `after` alone 100; with neither, everything")),
    responses((status = 200, description = "`{revision, items, next}`"), (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn llms(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query<ListQuery>,
) -> Result<Json<List<LlmStatus>>, HttpError> {
    Ok(Json(statuses(&app, &caller, &query.0)?))
}

/// A page of the statuses of the Llms that the caller may view.
pub(super) fn statuses(app: &App, caller: &Caller, query: &ListQuery) -> Result<List<LlmStatus>, HttpError> {
    let (selector, Page { after, limit, looked_at }) = (query.selector()?, query.page()?);
    let mut permits = caller.snapshot.permitted_after::<View>(&caller.principal, Kind::Llm, after);
    let (mut items, mut last) = (Vec::new(), None);
    for stored in permits.by_ref().take(looked_at).map(Permit::into_resource) {
        if selector.matches(&stored.resource.labels) {
            items.push(status_of(app, caller, &stored));
        }
        last = Some(stored);
        if items.len() >= limit {
            break;
        }
    }
    let next = last.filter(|_| permits.next().is_some()).map(|last| last.name().clone());
    Ok(List { revision: caller.snapshot.revision(), items, next })
}

/// Shows what every Llm that the caller may view is doing, as counts since the start of the replica that answers
#[utoipa::path(
    get, path = "/api/v1/llm-activity", tag = "resources",
    responses((status = 200, body = Activity), (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn activity(State(app): State<Arc<App>>, caller: Caller) -> Json<Activity> {
    let permits = caller.snapshot.permitted_after::<View>(&caller.principal, Kind::Llm, "");
    let items = permits.map(Permit::into_resource).map(|stored| LlmActivity {
        id: stored.id().clone(),
        llm: stored.name().clone(),
        state: status_of(&app, &caller, &stored).state,
        counts: app.inference.activity.of(stored.id()),
    });
    Json(Activity {
        replica: app.inference.client.instance().to_string(),
        up_millis: u64::try_from(app.inference.activity.up().as_millis()).unwrap_or(u64::MAX),
        items: items.collect(),
    })
}

/// The status of an Llm that the caller may view.
pub(super) fn status_of(app: &App, caller: &Caller, stored: &Stored) -> LlmStatus {
    let breakers = app.inference.breaker_statuses(stored);
    let mut void_keys = Vec::new();
    if let Spec::Llm(llm) = &stored.resource.spec {
        for upstream in llm.upstreams() {
            if let (Some(key), Some(Err(why))) =
                (upstream.api_key, caller.snapshot.attached_secret(&upstream))
            {
                let (kind, secret) = (Kind::Secret, key.secret.as_str());
                let may_view =
                    caller.snapshot.authorize_name(&caller.principal, Verb::View, kind, secret).is_ok();
                void_keys.push(VoidKey {
                    field: upstream.field("apiKey"),
                    secret: key.secret.clone(),
                    reason: may_view.then(|| why.to_string()),
                });
            }
        }
    }
    let seen = app.inference.health.of(stored.id());
    let is_open = |breaker: &BreakerStatus| breaker.state != BreakerState::Closed && !breaker.some_forms;
    let state = if !void_keys.is_empty() {
        LlmState::NoCredential
    } else if breakers.iter().all(is_open) {
        match breakers.iter().any(|breaker| breaker.state == BreakerState::HalfOpen) {
            true => LlmState::BreakerHalfOpen,
            false => LlmState::BreakerOpen,
        }
    } else if seen.failing_since.is_some() {
        LlmState::Failing
    } else if seen.last_used_at.is_some() {
        LlmState::Ok
    } else {
        LlmState::Unknown
    };
    LlmStatus {
        llm: stored.name().clone(),
        state,
        failing_since: seen.failing_since,
        last_failure: seen.last_failure,
        last_used_at: seen.last_used_at,
        breakers,
        void_keys,
    }
}
