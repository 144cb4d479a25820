//! The HTTP face of `mcpd`: routes, and the layers that every request passes.

mod apply;
mod auth;
mod authentication;
mod body;
mod capture;
mod domain_errors;
pub mod error;
pub mod guard;
mod inference;
mod limits;
mod operation;
mod path;
mod provider_failure;
mod query;
mod rate_limits;
mod resources;
mod tokens;
mod trace;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, MatchedPath},
    http::{StatusCode, Uri},
    middleware,
    routing::{get, post},
};
use mcpctl_api::{ErrorKind, Kind};
use mcpctl_failover::FailureClass;
use utoipa::OpenApi as _;

use crate::app::App;
use error::HttpError;

/// Everything but inference.
pub fn management() -> Router<Arc<App>> {
    Router::new()
        .route("/api/v1/apply", post(apply::apply))
        .route("/api/v1/watch", get(watch::watch))
        .route("/api/v1/auth/login", post(auth::login).layer(middleware::from_fn(guard::json_only)))
        .route("/api/v1/auth/logout", post(auth::logout))
        .route("/api/v1/auth/whoami", get(auth::whoami))
        .route("/api/v1/auth/can-i", post(auth::can_i))
        .route("/api/v1/auth/who-can", get(auth::who_can))
        .route("/api/v1/{kind}", get(resources::list).post(resources::create))
        .route(
            "/api/v1/{kind}/{idOrName}",
            get(resources::get).put(resources::put).patch(resources::patch).delete(resources::delete),
        )
        .route("/api/v1/{kind}/{idOrName}/status", get(limits::status))
        .route("/metrics", get(operation::metrics))
        .route("/openapi.json", get(operation::openapi))
}

/// Inference alone.
pub fn inference() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(inference::models))
        .route("/v1/models/{idOrName}", get(inference::model))
        .route("/v1/chat/completions", post(inference::chat))
        .route("/v1/completions", post(inference::completions))
        .route("/v1/embeddings", post(inference::embeddings))
        .route("/v1/responses", post(inference::responses))
        .route("/v1/messages", post(inference::messages))
        .route("/v1/messages/count_tokens", post(inference::count_tokens))
        .route("/api/v1/{kind}/{idOrName}/infer", post(inference::infer))
}

/// Puts the layers around some routes; the outermost is the last.
pub fn serve(routes: Router<Arc<App>>, app: Arc<App>, guard: guard::Guard) -> Router {
    routes
        .route("/healthz", get(operation::healthz))
        .route("/readyz", get(operation::readyz))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        // The layer reads bodies within the limits of their routes.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(Arc::clone(&app), body::read))
        // Inside the trace, so that refusals are logged and counted like every other answer.
        .layer(middleware::from_fn_with_state(Arc::clone(&app), authentication::require))
        .layer(middleware::from_fn_with_state(guard, guard::refuse_pages))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), trace::trace))
        .with_state(app)
}

/// The OpenAPI document of all routes, with everything in a settled order.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = operation::Docs::openapi();
    for part in [
        resources::Docs::openapi(),
        apply::Docs::openapi(),
        watch::Docs::openapi(),
        auth::Docs::openapi(),
        limits::Docs::openapi(),
        inference::Docs::openapi(),
    ] {
        document.merge(part);
    }
    document
}

impl HttpError {
    /// 404 for an address that nothing is at, with the one that was probably meant.
    pub fn no_route(path: &str) -> Self {
        let kinds: Vec<String> =
            Kind::ALL.into_iter().map(|kind| format!("/api/v1/{}", kind.plural())).collect();
        // What any kind would match hides what was meant.
        let routes = trace::ROUTES.iter().copied().filter(|route| !route.starts_with("/api/v1/{kind}"));
        let addresses: Vec<&str> = routes.chain(kinds.iter().map(String::as_str)).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            ErrorKind::NotFoundError,
            "no_such_route",
            "there is nothing at this address",
        )
        .hint(match mcpctl_server::nearest(path, &addresses) {
            // With `--inference-listen` there are two.
            Some(address) if is_at(address, path) => "it is at another listener of this mcpd".to_owned(),
            Some(address) => format!("the address is `{address}`"),
            None => "`/openapi.json` lists the routes".to_owned(),
        })
        .class(FailureClass::Denied)
    }
}

fn is_at(address: &str, path: &str) -> bool {
    let parts = |path: &str| path.split('/').count();
    address == path || (address.contains('{') && parts(address) == parts(path) && !path.ends_with('/'))
}

async fn no_route(address: Uri) -> HttpError {
    HttpError::no_route(address.path())
}

/// 405; axum adds `Allow`.
async fn wrong_method(route: Option<MatchedPath>, address: Uri) -> HttpError {
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    let first = address.path().strip_prefix("/api/v1/").and_then(|rest| rest.split('/').next());
    if let (true, Some(kind)) = (route.starts_with("/api/v1/{kind}"), first)
        && resources::kind(kind).is_err()
    {
        return HttpError::no_route(address.path());
    }
    HttpError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        ErrorKind::InvalidRequestError,
        "method_not_allowed",
        format!("this address takes {}", methods(route)),
    )
}

/// What a route takes.
fn methods(route: &str) -> &'static str {
    match route {
        "/api/v1/{kind}" => "GET, HEAD and POST",
        "/api/v1/{kind}/{idOrName}" => "GET, HEAD, PUT, PATCH and DELETE",
        "/api/v1/apply" | "/api/v1/auth/login" | "/api/v1/auth/logout" | "/api/v1/auth/can-i" => "POST",
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" | "/v1/responses" => "POST",
        "/v1/messages" | "/v1/messages/count_tokens" => "POST",
        "/api/v1/{kind}/{idOrName}/infer" => "POST",
        _ => "GET and HEAD",
    }
}
