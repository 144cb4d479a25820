//! `GET /api/v1/<kind>/:idOrName/status`: what changes by itself, of a Limit its counters, of an Llm its breakers and
//! void keys, of a token whether it is accepted. To those who may view the resource.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use mcpctl_api::{
    Kind, Spec, Verb,
    breaker_status::{LlmStatus, VoidKey},
};
use utoipa::OpenApi;

use super::{
    error::HttpError,
    limits,
    path::{self, Path},
    token_status,
    viewed::viewed,
};
use crate::{app::App, caller::Caller};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(llm))]
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
    let stored = viewed(app, caller, Kind::Llm, target).await?;
    let breakers = app.inference.breaker_statuses(&stored);
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
    Ok(Json(LlmStatus { llm: stored.name().clone(), breakers, void_keys }))
}
