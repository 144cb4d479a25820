//! The layer around every request: an id, a trace, a span, one log line, and a response for panics.

use std::time::Instant;

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};
use futures::FutureExt as _;
use mcpctl_api::header::REQUEST_ID;
use mcpctl_dialect::Dialect;
use tracing::Instrument as _;

use crate::{
    caller_dialect::dialect_of, request_scope::RequestScope, traced_body::TracedBody,
    traceparent::Traceparent,
};

/// Where clients of Anthropic's API look for the id of a request.
const ANTHROPIC_REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Runs a request. `routes` are the patterns that may occur in logs and metrics, so that their number is fixed when the
/// program is built. `panicked` makes the response to a request that panicked. `count` gets route and status.
/// `in_flight` is held until the end of the response's body.
///
/// The request continues the caller's trace, or begins one: its headers hold the `traceparent` for the next server, and
/// the span has the id of the trace.
pub async fn trace<G: Send + Unpin + 'static>(
    mut request: Request,
    next: Next,
    routes: &'static [&'static str],
    panicked: fn() -> Response,
    count: impl FnOnce(&'static str, u16),
    in_flight: G,
) -> Response {
    let started = Instant::now();
    let dialect = dialect_of(request.uri().path(), request.headers());
    let scope = RequestScope { id: uuid::Uuid::now_v7().to_string().into(), dialect };
    let method = request.method().clone();
    // The pattern and not the path, because paths contain what callers type.
    let matched = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let route = routes.iter().copied().find(|route| *route == matched).unwrap_or("other");
    let trace_id = Traceparent::continue_in(request.headers_mut()).trace_id();
    let span = tracing::info_span!(
        "request", id = %scope.id, %trace_id, %method, route, principal = tracing::field::Empty
    );
    let answer = scope.run(next.run(request));
    let caught = std::panic::AssertUnwindSafe(answer).catch_unwind().instrument(span.clone()).await;
    let mut response = caught.unwrap_or_else(|_| {
        // INVARIANT 8: a panic is a denial; its message is on stderr already.
        tracing::error!(parent: &span, "a request panicked");
        scope.within(&span, panicked)
    });
    let status = response.status().as_u16();
    count(route, status);
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(parent: &span, status, took_ms, "answered");
    if let Ok(value) = HeaderValue::from_str(&scope.id) {
        // A forwarded response keeps the id that its server gave it.
        if dialect == Dialect::Anthropic {
            response.headers_mut().entry(ANTHROPIC_REQUEST_ID).or_insert_with(|| value.clone());
        }
        response.headers_mut().entry(REQUEST_ID).or_insert(value);
    }
    response.map(|body| Body::new(TracedBody::new(body, scope, span, in_flight)))
}
