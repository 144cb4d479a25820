//! The layer around every request: an id, a trace, a line of the access log, and a response for panics.

use axum::{
    body::Body,
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method},
    response::Response,
};
use futures::FutureExt as _;
use hyper::body::Body as _;
use mcpctl_api::header::REQUEST_ID;
use mcpctl_dialect::Dialect;
use mcpctl_trace::{Span, Traceparent};

use crate::{
    caller_dialect::dialect_of,
    request_log::{OnEnd, RequestLog},
    request_scope::RequestScope,
    traced_body::TracedBody,
};

/// Where clients of each API look for the id of a request.
const fn clients_request_id(dialect: Dialect) -> HeaderName {
    match dialect {
        Dialect::Openai => HeaderName::from_static("x-request-id"),
        Dialect::Anthropic => HeaderName::from_static("request-id"),
    }
}

/// Runs a request by `run`. `routes` are the patterns that may occur in logs and metrics, so that their number is fixed when the
/// program is built. `panicked` makes the response to a request that panicked. `count` gets route and status.
/// `in_flight` is held until the end of the response's body, and `on_end` is called there.
///
/// The request continues the caller's trace, or begins one: its headers hold the `traceparent` for the next server, and
/// the lines that are logged meanwhile have the id of the trace.
pub async fn trace<G: Send + Unpin + 'static, F: Future<Output = Response>>(
    mut request: Request,
    run: impl FnOnce(Request) -> F,
    routes: &'static [&'static str],
    panicked: fn() -> Response,
    count: impl FnOnce(&'static str, u16),
    in_flight: G,
    on_end: Option<OnEnd>,
) -> Response {
    let dialect = dialect_of(request.uri().path(), request.headers());
    let of_a_model = request.uri().path().starts_with("/v1/");
    let method = known_method(request.method());
    // The pattern and not the path, because paths contain what callers type.
    let matched = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let route = routes.iter().copied().find(|route| *route == matched).unwrap_or("other");

    let parent = Traceparent::of(request.headers());
    let traced = Span::server(|| format!("{method} {route}"), parent);
    let position = traced.traceparent().unwrap_or_else(|| Traceparent::after(parent));
    position.write(request.headers_mut(), parent.is_some());
    let id = uuid::Uuid::now_v7().to_string();
    let bytes_in = request.body().size_hint().exact();
    // Before the future that it outlives: a caller who leaves before the answer has a line too.
    let scope = RequestScope::new(id, position.trace_id(), method, route, dialect);
    let mut log = RequestLog::begin(scope, traced, bytes_in, on_end);

    // Boxed, because it is large and the futures around it are made by moving it.
    let answer = std::panic::AssertUnwindSafe(Box::pin(run(request))).catch_unwind();
    let answer = log.scope.run(log.span.around(answer));
    let mut response = answer.await.unwrap_or_else(|_| {
        log.scope.within(&log.span, || {
            // INVARIANT 8: a panic is a denial; its message is on stderr already.
            tracing::error!("a request panicked");
            panicked()
        })
    });
    count(route, response.status().as_u16());
    log.answered(&response);
    if let Ok(value) = HeaderValue::from_str(&log.scope.id) {
        // A forwarded response keeps the id that its server gave it.
        if of_a_model {
            response.headers_mut().entry(clients_request_id(dialect)).or_insert_with(|| value.clone());
        }
        response.headers_mut().entry(REQUEST_ID).or_insert(value);
    }
    if log.scope.method == Method::HEAD || response.body().is_end_stream() {
        log.complete();
    }
    response.map(|body| Body::new(TracedBody::new(body, log, in_flight)))
}

/// The method, or `_OTHER` for one that HTTP does not define: a caller may make methods up, of any length, and this names spans.
fn known_method(method: &Method) -> Method {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
        Method::CONNECT,
    ];
    if known.contains(method) { method.clone() } else { Method::from_bytes(b"_OTHER").unwrap_or_default() }
}
