//! The inference routes, which hand requests to the pipeline, and the lists of models.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{FromRequest, Request, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse as _, Response},
    routing::post,
};
use mcpctl_api::{
    ErrorKind,
    models::{self, Model, PageQuery},
};
use mcpctl_client::{Client, ClientError};
use mcpctl_dialect::{Dialect, Operation};
use mcpctl_server::caller_dialect;
use mcpctl_upstream::hops::{self, HopError};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    error::LocalHttpError,
    guard::Caller,
    keep_alive,
    parts::{Path, query},
    render::render,
};
use crate::{
    app::App,
    pipeline::{self, InferenceCall, ModelRequest, OWN},
};

/// The routes of all operations; `model` is a central Llm, or `local/<provider>`.
pub fn operations() -> Router<Arc<App>> {
    let operations = [
        Operation::Chat,
        Operation::Completions,
        Operation::Embeddings,
        Operation::Responses,
        Operation::Messages,
        Operation::CountTokens,
    ];
    operations.into_iter().fold(Router::new(), |router, operation| {
        let handler = move |State(app): State<Arc<App>>, sent: Sent| async move {
            run(&app, operation, None, sent).await
        };
        router.route(&format!("/v1{}", operation.path()), post(handler))
    })
}

/// As chat completions, the Llm named by the path.
pub async fn infer(
    State(app): State<Arc<App>>,
    Path(llm): Path<String>,
    sent: Sent,
) -> Result<Response, LocalHttpError> {
    run(&app, Operation::Chat, Some(llm), sent).await
}

/// What an admitted caller sent. It is taken out of the request: a prompt's headers and body are not copied.
pub struct Sent {
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
}

impl<S: Sync> FromRequest<S> for Sent {
    type Rejection = LocalHttpError;

    async fn from_request(request: Request, _: &S) -> Result<Self, LocalHttpError> {
        let (mut parts, body) = request.into_parts();
        // INVARIANT 8: without the layer of the callers, nothing runs.
        let caller = parts.extensions.remove::<Caller>().ok_or_else(LocalHttpError::internal)?;
        // Read within its limits already.
        let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| LocalHttpError::internal())?;
        Ok(Self { caller, headers: parts.headers, body })
    }
}

async fn run(
    app: &Arc<App>,
    operation: Operation,
    llm: Option<String>,
    sent: Sent,
) -> Result<Response, LocalHttpError> {
    let Sent { caller, headers, body } = sent;
    hops::check(&headers, app.client.instance()).map_err(loop_error)?;
    let call = InferenceCall { operation, llm, headers, body };
    let request = ModelRequest::read(app, caller.runtime, caller.identity, call)?;
    let (streams, wait) = (request.streams(), request.wait());
    let work = pipeline::run(request);
    Ok(match streams {
        true => keep_alive::with_comments(operation, work, wait).await,
        false => render(work.await).into_response(),
    })
}

/// The Llms that the caller may run, and for this machine's user the local providers too, even while mcpd is unreachable.
pub async fn models(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    address: Uri,
    headers: HeaderMap,
) -> Result<Json<Value>, LocalHttpError> {
    hops::check(&headers, app.client.instance()).map_err(loop_error)?;
    let central = async { models_client(&caller)?.models_with(onward(&app, &headers)).await }.await;
    let Caller { runtime, identity: caller } = caller.0;
    let mut list = match central {
        Ok(list) => list,
        Err(error) if !caller.local => return Err(refused(&error)),
        Err(error) => {
            tracing::warn!(%error, "the central Llms cannot be listed");
            Vec::new()
        }
    };
    if caller.local {
        list.extend(runtime.registry.providers().map(|(name, _)| own_model(&app, name)));
    }
    Ok(Json(match caller_dialect() {
        Dialect::Openai => models::openai_list(&list, address.query()),
        Dialect::Anthropic => models::anthropic_page(&list, &query::<PageQuery>(&address)?)?,
    }))
}

/// One of those that [`models`] lists.
pub async fn model(
    State(app): State<Arc<App>>,
    caller: Extension<Caller>,
    Path(model): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, LocalHttpError> {
    hops::check(&headers, app.client.instance()).map_err(loop_error)?;
    let model = match model.strip_prefix(OWN) {
        Some(provider) => {
            let provider = pipeline::own_provider(&caller.runtime, &caller.identity, provider)?;
            own_model(&app, provider.config.name.as_str())
        }
        None => {
            let central = async { models_client(&caller)?.model_with(&model, onward(&app, &headers)).await };
            central.await.map_err(|error| refused(&error))?
        }
    };
    Ok(Json(match caller_dialect() {
        Dialect::Openai => model.openai(),
        Dialect::Anthropic => model.anthropic(),
    }))
}

/// A client of mcpd's lists of models with this caller's bearer.
fn models_client(caller: &Caller) -> Result<Client, ClientError> {
    caller.runtime.models.with_bearer(&SecretString::from(caller.identity.bearer.expose()))
}

fn onward(app: &App, headers: &HeaderMap) -> HeaderMap {
    HeaderMap::from_iter([(mcpctl_api::header::HOPS, hops::onward(headers, app.client.instance()))])
}

fn own_model(app: &App, provider: &str) -> Model {
    let created = app.started_at.as_second();
    Model { id: format!("{OWN}{provider}"), created, owned_by: "local".to_owned() }
}

/// 508 for what came back to the agent, whose `server` is itself or leads to it.
fn loop_error(error: HopError) -> LocalHttpError {
    match error {
        HopError::Malformed => LocalHttpError::invalid("", error.to_string()),
        HopError::Loop | HopError::TooMany => LocalHttpError::new(
            StatusCode::LOOP_DETECTED,
            ErrorKind::UpstreamError,
            "loop_detected",
            error.to_string(),
        )
        .hint("correct `server` and `inference` in mcplocal.yaml: they are addresses of mcpd"),
    }
}

fn refused(error: &ClientError) -> LocalHttpError {
    if let ClientError::Segment(_) = error {
        return LocalHttpError::invalid("model", error.to_string());
    }
    let status = error.status().unwrap_or(StatusCode::BAD_GATEWAY);
    let (kind, code) = match status {
        StatusCode::UNAUTHORIZED => (ErrorKind::AuthenticationError, "unauthenticated"),
        StatusCode::FORBIDDEN => (ErrorKind::PermissionError, "forbidden"),
        StatusCode::NOT_FOUND => (ErrorKind::NotFoundError, "not_found"),
        _ => (ErrorKind::UpstreamError, "connect"),
    };
    LocalHttpError::new(status, kind, code, error.to_string())
}
