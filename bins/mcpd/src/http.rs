//! The HTTP face of `mcpd`: routes, and the layers that every request passes.

mod apply;
mod auth;
mod body;
pub mod caller;
pub mod commit;
pub mod error;
pub mod guard;
mod inference;
mod operation;
mod query;
mod resources;
mod tokens;
mod trace;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
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
        .route("/metrics", get(operation::metrics))
        .route("/openapi.json", get(operation::openapi))
}

/// Inference alone.
pub fn inference() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(inference::models))
        .route("/v1/chat/completions", post(inference::chat))
        .route("/v1/completions", post(inference::completions))
        .route("/v1/embeddings", post(inference::embeddings))
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
        .layer(middleware::from_fn_with_state(Arc::clone(&app), caller::require))
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
        inference::Docs::openapi(),
    ] {
        document.merge(part);
    }
    document
}

impl HttpError {
    /// 404 for an address that nothing is at.
    pub fn no_route() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            mcpctl_api::ErrorKind::NotFoundError,
            "no_such_route",
            "there is nothing at this address",
        )
        .hint("`/openapi.json` lists the routes")
        .class(mcpctl_failover::FailureClass::Denied)
    }
}

async fn no_route() -> Response {
    HttpError::no_route().into_response()
}

async fn wrong_method() -> Response {
    HttpError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        mcpctl_api::ErrorKind::InvalidRequestError,
        "method_not_allowed",
        "this address does not take that method",
    )
    .into_response()
}
