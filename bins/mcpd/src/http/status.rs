//! `GET /api/v1/<kind>/:idOrName/status`: what changes by itself, of a Limit its counters and of an Llm its breakers. To those who
//! may view the resource.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use mcpctl_api::{Kind, breaker_status::LlmStatus};
use utoipa::OpenApi;

use super::{error::HttpError, limits, path::Path, resources, viewed::viewed};
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
    match resources::kind(&segment)? {
        Kind::Limit => Ok(limits::status(&app, &caller, &target).await?.into_response()),
        Kind::Llm => Ok(llm(&app, &caller, &target).await?.into_response()),
        _ => Err(HttpError::no_route(&format!("/api/v1/{segment}/{target}/status"))),
    }
}

/// Shows the breakers of an Llm's upstreams, as the replica that answers knows them
#[utoipa::path(
    get, path = "/api/v1/llms/{idOrName}/status", tag = "resources",
    params(("idOrName" = String, Path)),
    responses((status = 200, body = LlmStatus), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 404, body = mcpctl_api::ApiError)),
)]
async fn llm(app: &App, caller: &Caller, target: &str) -> Result<Json<LlmStatus>, HttpError> {
    let stored = viewed(app, caller, Kind::Llm, target).await?;
    let breakers = app.inference.breaker_statuses(&stored);
    Ok(Json(LlmStatus { llm: stored.name().clone(), breakers }))
}
