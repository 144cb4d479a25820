//! `POST /api/v1/llms/:idOrName/test`: tests the way to the model of an Llm, for those who may run it.

use std::sync::Arc;

use axum::{Json, body::Bytes, extract::State};
use mcpctl_api::{Kind, llm_test::LlmTest};
use serde::Deserialize;
use utoipa::OpenApi;

use super::{
    error::HttpError,
    path::{self, Path},
};
use crate::{app::App, caller::Caller, inference::llm_test};

/// This route's part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(test))]
pub struct Docs;

/// What the request holds: nothing yet, and what it does not know is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TestRequest {}

/// Sends a small request to each target of an Llm, and reports which step on the way to the model fails; it counts as usage
#[utoipa::path(
    post, path = "/api/v1/llms/{idOrName}/test", tag = "inference",
    params(("idOrName" = String, Path)),
    request_body(description = "nothing, or `{}`", content_type = "application/json"),
    responses((status = 200, body = LlmTest, description = "also where a step failed"),
              (status = 400, body = mcpctl_api::ApiError), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 404, body = mcpctl_api::ApiError),
              (status = 429, body = mcpctl_api::ApiError, description = "a Limit, or a test of the caller that runs")),
)]
pub async fn test(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((segment, llm)): Path<(String, String)>,
    body: Bytes,
) -> Result<Json<LlmTest>, HttpError> {
    if path::kind(&segment)? != Kind::Llm {
        return Err(HttpError::no_route(&format!("/api/v1/{segment}/{llm}/test")));
    }
    if !body.is_empty() {
        let TestRequest {} =
            serde_json::from_slice(&body).map_err(|error| HttpError::invalid("", error.to_string()))?;
    }
    Ok(Json(Box::pin(llm_test::run(&app, caller, &llm)).await?))
}
