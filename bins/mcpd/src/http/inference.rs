//! The inference routes: thin doors to the pipeline.

use std::sync::Arc;

use axum::{Json, body::Bytes, extract::State, http::HeaderMap, response::Response};
use mcpctl_access::Permit;
use mcpctl_api::{Kind, Verb};
use mcpctl_upstream::Operation;
use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{caller::Caller, error::HttpError, path::Path, resources};
use crate::{
    app::App,
    audit,
    pipeline::{self, Call},
};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(models, model, chat, completions, embeddings, infer))]
pub struct Docs;

/// Lists the Llms that the caller may run, as OpenAI lists models
#[utoipa::path(
    get, path = "/v1/models", tag = "inference",
    responses((status = 200, description = "`{object: \"list\", data: [{id, object, created, owned_by}]}`"),
              (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn models(caller: Caller) -> Json<Value> {
    let permits = caller.snapshot.permitted(&caller.principal, Verb::Run, Kind::Llm);
    let data: Vec<Value> = permits.iter().map(as_model).collect();
    Json(json!({"object": "list", "data": data}))
}

/// One Llm that the caller may run, as OpenAI shows a model
#[utoipa::path(
    get, path = "/v1/models/{idOrName}", tag = "inference",
    params(("idOrName" = String, Path)),
    responses((status = 200, description = "`{id, object, created, owned_by}`"),
              (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError, description = "may not run it, whether or not it exists"),
              (status = 404, body = mcpctl_api::ApiError, description = "may run all Llms, but there is none")),
)]
pub async fn model(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(llm): Path<String>,
) -> Result<Json<Value>, HttpError> {
    let decision = caller.snapshot.authorize(&caller.principal, Verb::Run, Kind::Llm, &llm);
    if decision.is_err() {
        audit::decision(&app, &caller, Verb::Run, Kind::Llm, &llm, &decision).await?;
    }
    Ok(Json(as_model(&decision?)))
}

fn as_model(permit: &Permit) -> Value {
    let resource = &permit.resource().resource;
    json!({
        "id": resource.name,
        "object": "model",
        "created": resource.created_at.as_second(),
        "owned_by": "mcpctl",
    })
}

/// OpenAI's chat completions; `model` is an Llm's name or id
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "inference",
    request_body(description = "as OpenAI's", content_type = "application/json"),
    responses((status = 200, description = "as OpenAI's; with `stream`, server-sent events"),
              (status = 400, body = mcpctl_api::ApiError), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 404, body = mcpctl_api::ApiError),
              (status = 502, body = mcpctl_api::ApiError)),
)]
pub async fn chat(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    pipeline::run(&app, caller, Call { operation: Operation::Chat, llm: None, headers, body }).await
}

/// OpenAI's completions
#[utoipa::path(
    post, path = "/v1/completions", tag = "inference",
    request_body(description = "as OpenAI's", content_type = "application/json"),
    responses((status = 200, description = "as OpenAI's"), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError)),
)]
pub async fn completions(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    pipeline::run(&app, caller, Call { operation: Operation::Completions, llm: None, headers, body }).await
}

/// OpenAI's embeddings
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "inference",
    request_body(description = "as OpenAI's", content_type = "application/json"),
    responses((status = 200, description = "as OpenAI's"), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError)),
)]
pub async fn embeddings(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    pipeline::run(&app, caller, Call { operation: Operation::Embeddings, llm: None, headers, body }).await
}

/// As chat completions, the Llm named by the path
#[utoipa::path(
    post, path = "/api/v1/llms/{idOrName}/infer", tag = "inference",
    params(("idOrName" = String, Path)),
    request_body(description = "as OpenAI's chat completions; `model` may be left out", content_type = "application/json"),
    responses((status = 200, description = "as OpenAI's"), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError), (status = 404, body = mcpctl_api::ApiError)),
)]
pub async fn infer(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((segment, llm)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpError> {
    if resources::kind(&segment)? != Kind::Llm {
        return Err(HttpError::no_route(&format!("/api/v1/{segment}/{llm}/infer")));
    }
    pipeline::run(&app, caller, Call { operation: Operation::Chat, llm: Some(llm), headers, body }).await
}
