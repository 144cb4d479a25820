//! Around every request: an id, a span, one log line, the counts, and panics turned into errors.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures::FutureExt as _;
use tracing::Instrument as _;

use super::error::HttpError;
use crate::app::App;

/// Names a request in answers, logs and records.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("mcpctl-request-id");

tokio::task_local! {
    static CURRENT: Arc<str>;
}

/// The id of the request that is being served; empty outside of one.
pub fn request_id() -> String {
    CURRENT.try_with(|id| id.to_string()).unwrap_or_default()
}

/// The outermost layer.
pub async fn trace(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id: Arc<str> = uuid::Uuid::now_v7().to_string().into();
    let method = request.method().clone();
    // The pattern, not the address: addresses hold what callers type.
    let route = request.extensions().get::<MatchedPath>().map_or("other", |path| route(path.as_str()));
    let span = tracing::info_span!("request", id = %id, %method, route, principal = tracing::field::Empty);
    let in_flight = app.metrics.traffic.in_flight();
    let answer = CURRENT.scope(Arc::clone(&id), next.run(request));
    let caught = std::panic::AssertUnwindSafe(answer).catch_unwind().instrument(span.clone()).await;
    drop(in_flight);
    let mut response = caught.unwrap_or_else(|_| {
        // INVARIANT 8: a panic is a denial; its message is on stderr already.
        tracing::error!(parent: &span, "a request panicked");
        HttpError::internal().into_response()
    });
    let status = response.status();
    app.metrics.traffic.request(route, status.as_u16());
    tracing::info!(
        parent: &span,
        status = status.as_u16(),
        took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "answered"
    );
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Routes as labels of metrics, so that their number is settled when the program is built.
const ROUTES: [&str; 18] = [
    "/api/v1/apply",
    "/api/v1/watch",
    "/api/v1/auth/login",
    "/api/v1/auth/logout",
    "/api/v1/auth/whoami",
    "/api/v1/auth/can-i",
    "/api/v1/auth/who-can",
    "/api/v1/{kind}",
    "/api/v1/{kind}/{idOrName}",
    "/api/v1/{kind}/{idOrName}/infer",
    "/v1/models",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
];

fn route(matched: &str) -> &'static str {
    ROUTES.into_iter().find(|route| *route == matched).unwrap_or("other")
}
