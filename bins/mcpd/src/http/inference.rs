//! The inference routes: they run the pipeline and render its result.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderValue, Uri},
    response::{IntoResponse as _, Response},
};
use mcpctl_access::{Permit, verb::Run};
use mcpctl_api::{
    Kind,
    header::{ATTEMPTS, FAILOVER, SERVED_BY},
    models::{self, Model, PageQuery},
};
use mcpctl_dialect::{Dialect, Operation};
use mcpctl_server::caller_dialect;
use serde_json::Value;
use utoipa::OpenApi;

use super::{
    capture,
    error::HttpError,
    path::{self, Path},
    provider_failure, query, rate_limits,
};
use crate::{
    app::App,
    caller::Caller,
    inference::{
        outcome::{InferenceOutcome, InferenceRequest, InferenceResponse},
        pipeline,
    },
};

/// These routes' part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(paths(models, model, chat, completions, embeddings, responses, messages, count_tokens, infer))]
pub struct Docs;

/// Lists the Llms that the caller may run, as OpenAI lists models, or as Anthropic where `anthropic-version` is sent
#[utoipa::path(
    get, path = "/v1/models", tag = "inference",
    params(("limit" = Option<usize>, Query, description = "Anthropic's lists: models of a page, 1 to 1000, 20 by default"),
           ("after_id" = Option<String>, Query, description = "Anthropic's lists: the page after this model"),
           ("before_id" = Option<String>, Query, description = "Anthropic's lists: the page before this model"),
           ("beta" = Option<bool>, Query, description = "sent by Anthropic's clients; it changes nothing"),
           ("client_version" = Option<String>, Query, description = "sent by Codex: an empty `models` is added")),
    responses((status = 200, description = "`{object: \"list\", data: [{id, object, created, owned_by}]}`, or \
                `{data: [{type, id, display_name, created_at}], has_more, first_id, last_id}`"),
              (status = 400, body = mcpctl_api::ApiError),
              (status = 401, body = mcpctl_api::ApiError)),
)]
pub async fn models(caller: Caller, address: Uri) -> Result<Json<Value>, HttpError> {
    let permits = caller.snapshot.permitted::<Run>(&caller.principal, Kind::Llm);
    let models: Vec<Model> = permits.iter().map(as_model).collect();
    Ok(Json(match caller_dialect() {
        Dialect::Openai => models::openai_list(&models, address.query()),
        Dialect::Anthropic => models::anthropic_page(&models, &query::read::<PageQuery>(&address)?)?,
    }))
}

/// One Llm that the caller may run, as OpenAI shows a model, or as Anthropic where `anthropic-version` is sent
#[utoipa::path(
    get, path = "/v1/models/{idOrName}", tag = "inference",
    params(("idOrName" = String, Path),
           ("beta" = Option<bool>, Query, description = "sent by Anthropic's clients; it changes nothing")),
    responses((status = 200, description = "`{id, object, created, owned_by}`, or `{type, id, display_name, created_at}`"),
              (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError, description = "may not run it, whether or not it exists"),
              (status = 404, body = mcpctl_api::ApiError, description = "may run all Llms, but there is none")),
)]
pub async fn model(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(llm): Path<String>,
) -> Result<Json<Value>, HttpError> {
    let Caller { principal, snapshot, .. } = &caller;
    let decision = snapshot.authorize::<Run>(principal, Kind::Llm, &llm);
    if decision.is_err() {
        let entry = app.audit.decision(principal, Kind::Llm, &llm, snapshot.revision(), &decision);
        app.audit.record(entry).await?;
    }
    let model = as_model(&decision?);
    Ok(Json(match caller_dialect() {
        Dialect::Openai => model.openai(),
        Dialect::Anthropic => model.anthropic(),
    }))
}

fn as_model(permit: &Permit<Run>) -> Model {
    let resource = &permit.resource().resource;
    let (id, created) = (resource.name.to_string(), resource.created_at.as_second());
    Model { id, created, owned_by: "mcpctl".to_owned() }
}

/// What an authenticated caller sent. It is taken out of the request: a prompt's headers and body are not copied.
pub struct Sent {
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
}

impl<S: Sync> FromRequest<S> for Sent {
    type Rejection = HttpError;

    async fn from_request(request: Request, _: &S) -> Result<Self, HttpError> {
        let (mut parts, body) = request.into_parts();
        let caller = Caller::take(&mut parts.extensions)?;
        // Read within its limits already.
        let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| HttpError::internal())?;
        Ok(Self { caller, headers: parts.headers, body })
    }
}

impl Sent {
    /// What a form of the console stands for.
    pub(super) const fn new(caller: Caller, headers: HeaderMap, body: Bytes) -> Self {
        Self { caller, headers, body }
    }
}

/// Runs a request, and keeps its bodies where the Llm that answers has `capture`.
pub(super) async fn answer(
    app: &Arc<App>,
    operation: Operation,
    llm: Option<String>,
    sent: Sent,
) -> Result<Response, HttpError> {
    let Sent { caller, headers, body } = sent;
    let (snapshot, sent) = (Arc::clone(&caller.snapshot), body.clone());
    let response = run(app, caller, InferenceRequest { operation, llm, headers, body }).await?;
    Ok(capture::where_wanted(app, &snapshot, &sent, response))
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
pub async fn chat(State(app): State<Arc<App>>, sent: Sent) -> Result<Response, HttpError> {
    answer(&app, Operation::Chat, None, sent).await
}

/// OpenAI's completions
#[utoipa::path(
    post, path = "/v1/completions", tag = "inference",
    request_body(description = "as OpenAI's", content_type = "application/json"),
    responses((status = 200, description = "as OpenAI's"), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError)),
)]
pub async fn completions(State(app): State<Arc<App>>, sent: Sent) -> Result<Response, HttpError> {
    answer(&app, Operation::Completions, None, sent).await
}

/// OpenAI's embeddings
#[utoipa::path(
    post, path = "/v1/embeddings", tag = "inference",
    request_body(description = "as OpenAI's", content_type = "application/json"),
    responses((status = 200, description = "as OpenAI's"), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError)),
)]
pub async fn embeddings(State(app): State<Arc<App>>, sent: Sent) -> Result<Response, HttpError> {
    answer(&app, Operation::Embeddings, None, sent).await
}

/// OpenAI's responses
#[utoipa::path(
    post, path = "/v1/responses", tag = "inference",
    request_body(description = "as OpenAI's", content_type = "application/json"),
    responses((status = 200, description = "as OpenAI's; with `stream`, server-sent events"),
              (status = 400, body = mcpctl_api::ApiError, description = "what the provider's dialect cannot express, by name"),
              (status = 401, body = mcpctl_api::ApiError), (status = 403, body = mcpctl_api::ApiError)),
)]
pub async fn responses(State(app): State<Arc<App>>, sent: Sent) -> Result<Response, HttpError> {
    answer(&app, Operation::Responses, None, sent).await
}

/// Anthropic's messages; `model` is an Llm's name or id
#[utoipa::path(
    post, path = "/v1/messages", tag = "inference",
    params(("beta" = Option<bool>, Query, description = "sent by Anthropic's clients; it changes nothing")),
    request_body(description = "as Anthropic's", content_type = "application/json"),
    responses((status = 200, description = "as Anthropic's; with `stream`, server-sent events"),
              (status = 400, description = "what the provider's dialect cannot express, by name; errors are as Anthropic's"),
              (status = 401, description = "no credential, or an unknown one"),
              (status = 403, description = "may not run the Llm")),
)]
pub async fn messages(State(app): State<Arc<App>>, sent: Sent) -> Result<Response, HttpError> {
    answer(&app, Operation::Messages, None, sent).await
}

/// Anthropic's token counts
#[utoipa::path(
    post, path = "/v1/messages/count_tokens", tag = "inference",
    params(("beta" = Option<bool>, Query, description = "sent by Anthropic's clients; it changes nothing")),
    request_body(description = "as Anthropic's", content_type = "application/json"),
    responses((status = 200, description = "as Anthropic's; with `mcpctl-estimated` where the provider has no counter"),
              (status = 401, description = "no credential, or an unknown one"),
              (status = 403, description = "may not run the Llm")),
)]
pub async fn count_tokens(State(app): State<Arc<App>>, sent: Sent) -> Result<Response, HttpError> {
    answer(&app, Operation::CountTokens, None, sent).await
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
    Path((segment, llm)): Path<(String, String)>,
    sent: Sent,
) -> Result<Response, HttpError> {
    if path::kind(&segment)? != Kind::Llm {
        return Err(HttpError::no_route(&format!("/api/v1/{segment}/{llm}/infer")));
    }
    answer(&app, Operation::Chat, Some(llm), sent).await
}

async fn run(app: &Arc<App>, caller: Caller, request: InferenceRequest) -> Result<Response, HttpError> {
    let InferenceResponse { llm, attempts, failover, outcome, standings } =
        pipeline::run(app, caller, request).await?;
    let mut response = match outcome {
        InferenceOutcome::Whole(whole) => {
            let mut response = (whole.status, whole.body).into_response();
            provider_failure::copy_headers(&whole.headers, &mut response);
            response
        }
        InferenceOutcome::Stream { status, headers, body } => {
            let mut response = (status, Body::from_stream(body)).into_response();
            provider_failure::copy_headers(&headers, &mut response);
            response
        }
        InferenceOutcome::Failed { failure, may_edit } => provider_failure::render(&failure, &llm, may_edit),
    };
    let headers = response.headers_mut();
    rate_limits::insert(headers, &standings);
    headers.insert(ATTEMPTS, HeaderValue::from(attempts));
    if let Some(class) = failover {
        headers.insert(FAILOVER, HeaderValue::from_static(class.as_str()));
    }
    if let Ok(name) = HeaderValue::from_str(llm.as_str()) {
        headers.insert(SERVED_BY, name);
    }
    Ok(response)
}
