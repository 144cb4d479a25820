//! The HTTP face of the agent: mcpd's inference routes, and the agent's own routes.

mod engines;
mod error;
mod guard;
mod inference;
mod keep_alive;
pub mod own_socket;
mod parts;
mod passed;
mod render;
mod status;

use std::sync::Arc;

use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{StatusCode, Uri},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use mcpctl_api::ErrorKind;
use mcpctl_server::OnEnd;

use crate::{app::App, meter};
use error::LocalHttpError;

/// Routes that logs and metrics may name.
const ROUTES: [&str; 17] = [
    "/v1/models",
    "/v1/models/{*model}",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/api/v1/llms/{idOrName}/infer",
    "/api/v1/engines",
    "/api/v1/engines/{name}/start",
    "/api/v1/engines/{name}/stop",
    "/api/v1/engines/{name}/logs",
    "/api/v1/local-key/rotate",
    "/status",
    "/metrics",
    "/healthz",
];

/// All routes, with the layers that every request passes; `more` are for this machine's user.
pub fn routes(app: Arc<App>, more: Router) -> Router {
    // The agent's own routes are for this machine's user; inference accepts a bearer of mcpd's too.
    let own = Router::new()
        .route("/status", get(status::status))
        .route("/metrics", get(status::metrics))
        .route("/api/v1/engines", get(engines::list))
        .route("/api/v1/engines/{name}/start", post(engines::start))
        .route("/api/v1/engines/{name}/stop", post(engines::stop))
        .route("/api/v1/engines/{name}/logs", get(engines::logs))
        .with_state(Arc::clone(&app))
        .merge(more)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::local_key));
    let inference = Router::new()
        .route("/v1/models", get(inference::models))
        .route("/v1/models/{*model}", get(inference::model))
        .merge(inference::operations())
        .route("/api/v1/llms/{idOrName}/infer", post(inference::infer))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::caller))
        .with_state(Arc::clone(&app));
    inference
        .merge(own)
        .route("/healthz", get(|| async { "ok\n" }).layer(middleware::from_fn(guard::anyone)))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app, admit))
}

/// The layer around every request: traces it, and admits only programs of this machine.
async fn admit(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let in_flight = app.metrics.http.in_flight();
    let panicked = || LocalHttpError::internal().into_response();
    let count = |route, status| app.metrics.http.request(route, status);
    let metrics = Arc::clone(&app.metrics);
    let on_end: OnEnd = Box::new(move |ended| meter::inference(&metrics.inference, ended));
    // Before everything else, so that a web page learns nothing from the kind of error.
    let run = async |request| match guard::from_this_machine(&app, &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    mcpctl_server::trace(request, run, &ROUTES, panicked, count, in_flight, Some(on_end)).await
}

async fn no_route(address: Uri) -> LocalHttpError {
    let hint = match mcpctl_server::nearest(address.path(), &ROUTES) {
        Some(near) if near != address.path() => format!("the address is `{}`", near.replace("{*", "{")),
        _ => "resources are at mcpd; here are the inference routes, /status, /metrics and /api/v1/engines"
            .to_owned(),
    };
    LocalHttpError::new(
        StatusCode::NOT_FOUND,
        ErrorKind::NotFoundError,
        "no_such_route",
        "there is nothing at this address of mcplocal",
    )
    .hint(hint)
}

/// 405; axum adds `Allow`.
async fn wrong_method(route: Option<MatchedPath>) -> LocalHttpError {
    LocalHttpError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::InvalidRequestError,
        "method_not_allowed",
        format!("this address of mcplocal takes {}", methods(route.as_ref().map_or("", MatchedPath::as_str))),
    )
}

/// The methods of a route.
fn methods(route: &str) -> &'static str {
    match route {
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" | "/v1/responses" => "POST",
        "/v1/messages" | "/v1/messages/count_tokens" => "POST",
        "/api/v1/llms/{idOrName}/infer" | "/api/v1/local-key/rotate" => "POST",
        "/api/v1/engines/{name}/start" | "/api/v1/engines/{name}/stop" => "POST",
        _ => "GET and HEAD",
    }
}
