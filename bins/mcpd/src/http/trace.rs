//! Traces and counts each request. What both daemons share is in `mcpctl_server::trace`; the routes and metrics of mcpd are here.

use axum::{
    extract::Request,
    response::{IntoResponse as _, Response},
};

use super::error::HttpError;
use crate::app::App;

/// The routes that logs and metrics name.
pub(super) const ROUTES: [&str; 72] = [
    "/api/v1/apply",
    "/api/v1/watch",
    "/api/v1/audit",
    "/api/v1/usage",
    "/api/v1/llm-status",
    "/api/v1/llm-activity",
    "/api/v1/agents/{agent}/journal",
    "/api/v1/feed",
    "/api/v1/auth/login",
    "/api/v1/auth/methods",
    "/api/v1/auth/oidc/code",
    "/api/v1/auth/oidc/device",
    "/api/v1/auth/oidc/device/poll",
    "/api/v1/auth/token-exchange",
    "/api/v1/auth/logout",
    "/api/v1/auth/password",
    "/api/v1/auth/rights",
    "/api/v1/auth/whoami",
    "/api/v1/auth/can-i",
    "/api/v1/auth/who-can",
    "/api/v1/admin/rotate-keys",
    "/api/v1/admin/lift-throttle",
    "/api/v1/admin/installation",
    "/.well-known/mcpctl-keys",
    "/api/v1/auth/token-status",
    "/api/v1/{kind}",
    "/api/v1/{kind}/{idOrName}",
    "/api/v1/{kind}/{idOrName}/infer",
    "/api/v1/{kind}/{idOrName}/status",
    "/api/v1/{kind}/{idOrName}/rotate",
    "/api/v1/{kind}/{idOrName}/test",
    "/v1/models",
    "/v1/models/{idOrName}",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/console",
    "/console/",
    "/console/assets/{file}",
    "/console/sign-in",
    "/console/sign-in/with/{provider}",
    "/console/sign-in/return",
    "/console/sign-out",
    "/console/llms",
    "/console/llms/{name}",
    "/console/llms/{name}/test",
    "/console/playground",
    "/console/playground/infer",
    "/console/secrets",
    "/console/secrets/{name}",
    "/console/tokens",
    "/console/tokens/{name}",
    "/console/tokens/{name}/rotate",
    "/console/tokens/{name}/revoke",
    "/console/access",
    "/console/access/why",
    "/console/access/revoke",
    "/console/people",
    "/console/people/{kind}/{name}",
    "/console/people/{kind}/{name}/{action}",
    "/console/usage",
    "/console/failovers",
    "/console/audit",
    "/console/agents",
    "/console/agents/{agent}",
];

/// Runs a request in a span, and counts it.
pub async fn trace<F>(app: &App, request: Request, run: impl FnOnce(Request) -> F) -> Response
where
    F: Future<Output = Response>,
{
    let in_flight = app.metrics.http.in_flight();
    let panicked = || HttpError::internal().into_response();
    let count = |route, status| app.metrics.http.request(route, status);
    mcpctl_server::trace(request, run, &ROUTES, panicked, count, in_flight, None).await
}
