//! Routes for operators: liveness, readiness, metrics, and the OpenAPI document.

use std::sync::{Arc, LazyLock};

use axum::{
    body::Bytes,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use mcpctl_api::{Kind, breaker_status::BreakerState};
use mcpctl_telemetry::Configured;
use utoipa::OpenApi;

use super::{error::HttpError, viewed::check_views_all};
use crate::{app::App, caller::Caller};

/// These routes and the general part of the OpenAPI document.
#[derive(OpenApi)]
#[openapi(
    info(title = "mcpd", description = "Central daemon of mcpctl: named Llms, secrets, people, RBAC, inference proxy.",
         license(name = "Apache-2.0", identifier = "Apache-2.0")),
    paths(healthz, readyz, metrics, openapi),
    components(schemas(
        mcpctl_api::spec::LlmSpec, mcpctl_api::spec::SecretSpec, mcpctl_api::spec::UserSpec,
        mcpctl_api::spec::GroupSpec, mcpctl_api::spec::ServiceAccountSpec, mcpctl_api::spec::RoleSpec,
        mcpctl_api::spec::RoleBindingSpec, mcpctl_api::spec::LimitSpec, mcpctl_api::spec::TokenSpec,
        mcpctl_api::schema::DocumentKeys, mcpctl_api::question::TokenRequest,
        mcpctl_api::question::IssuedToken,
    )),
    modifiers(&Bearer),
    security(("bearer" = [])),
)]
pub struct Docs;

struct Bearer;

impl utoipa::Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        document.components.get_or_insert_default().add_security_scheme("bearer", scheme);
    }
}

/// Is the process alive
#[utoipa::path(get, path = "/healthz", tag = "operation", security(()), responses((status = 200, description = "`ok`")))]
pub async fn healthz() -> &'static str {
    "ok\n"
}

/// Can it serve: the store answers and takes records, and mcpd does not shut down
#[utoipa::path(get, path = "/readyz", tag = "operation", security(()),
    responses((status = 200, description = "`ok`"), (status = 503, body = mcpctl_api::ApiError)))]
pub async fn readyz(State(app): State<Arc<App>>) -> Result<&'static str, HttpError> {
    if *app.leaving.borrow() {
        return Err(HttpError::unavailable("this replica is going down"));
    }
    app.readiness.check(app.fresh(), &app.store).await?;
    Ok("ok\n")
}

/// Counts, in the OpenMetrics format; for those who may view all Llms, because Llms are named in it
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, description = "OpenMetrics text"), (status = 401, body = mcpctl_api::ApiError),
              (status = 403, body = mcpctl_api::ApiError)))]
pub async fn metrics(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, HttpError> {
    check_views_all(&app, &caller, Kind::Llm).await?;
    // When asked for, because breakers open and close by themselves.
    let llms = caller.snapshot.all(Kind::Llm).map(|llm| {
        let breakers = app.inference.breaker_statuses(llm);
        let open = breakers.iter().filter(|breaker| breaker.state != BreakerState::Closed).count();
        (Configured::resolved(llm.name().as_str()), open)
    });
    app.metrics.inference.open_breakers(llms);
    app.metrics.feeds(app.feeds.count());
    let content_type = [(header::CONTENT_TYPE, mcpctl_telemetry::metrics::CONTENT_TYPE)];
    Ok((content_type, app.metrics.render()).into_response())
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "operation", security(()),
    responses((status = 200, description = "OpenAPI 3.1")))]
pub async fn openapi() -> Response {
    // Rendered once: the route needs no credential.
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| serde_json::to_vec(&super::openapi()).unwrap_or_default().into());
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}
