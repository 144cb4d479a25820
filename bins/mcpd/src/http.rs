//! The HTTP face of `mcpd`: routes, and what every request passes before them.

mod admission;
mod apply;
mod audit;
mod auth;
mod authentication;
mod body;
mod capture;
mod console;
mod domain_errors;
mod dry_run;
pub mod error;
mod exchange;
mod feed;
pub mod guard;
mod inference;
mod installation;
mod journal;
mod journal_errors;
mod limits;
mod llm_test;
mod merge_patch;
mod operation;
mod parameters;
mod path;
mod probe;
mod provider_failure;
mod query;
mod rate_limits;
mod resources;
mod rights;
mod sign_on;
mod signing_keys;
mod status;
mod throttle;
mod token_status;
mod tokens;
mod trace;
mod usage;
mod viewed;
mod watch;

use std::sync::Arc;

use axum::{
    Router,
    extract::MatchedPath,
    http::{StatusCode, Uri},
    middleware,
    routing::{MethodRouter, get, post},
};
use mcpctl_api::{ErrorKind, Kind};
use mcpctl_failover::FailureClass;
use mcpctl_server::Workload;
use utoipa::OpenApi as _;

use crate::app::App;
use admission::Admission;
use error::HttpError;

/// What a listener serves besides health checks.
#[derive(Default)]
pub struct Faces {
    routes: Router<Arc<App>>,
    console: bool,
}

impl Faces {
    /// With everything but inference and the console.
    #[must_use]
    pub fn management(self) -> Self {
        Self { routes: self.routes.merge(router(management_routes())), ..self }
    }

    /// With inference.
    #[must_use]
    pub fn inference(self) -> Self {
        Self { routes: self.routes.merge(router(inference_routes())), ..self }
    }

    /// With the console.
    #[must_use]
    pub fn console(self) -> Self {
        Self { routes: self.routes.merge(router(console::routes())), console: true }
    }
}

fn router(routes: impl IntoIterator<Item = (&'static str, MethodRouter<Arc<App>>)>) -> Router<Arc<App>> {
    routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

type Routes<const N: usize> = [(&'static str, MethodRouter<Arc<App>>); N];

fn management_routes() -> Routes<32> {
    [
        ("/api/v1/apply", post(apply::apply)),
        ("/api/v1/watch", get(watch::watch)),
        ("/api/v1/audit", get(audit::audit)),
        ("/api/v1/usage", get(usage::usage)),
        ("/api/v1/llm-status", get(status::llms)),
        ("/api/v1/llm-activity", get(status::activity)),
        ("/api/v1/agents/{agent}/journal", get(journal::head).post(journal::receive)),
        ("/api/v1/feed", get(feed::feed)),
        ("/api/v1/auth/login", post(auth::login).layer(middleware::from_fn(guard::json_only))),
        ("/api/v1/auth/methods", get(sign_on::methods)),
        ("/api/v1/auth/oidc/code", post(sign_on::code).layer(middleware::from_fn(guard::json_only))),
        ("/api/v1/auth/oidc/device", post(sign_on::device).layer(middleware::from_fn(guard::json_only))),
        ("/api/v1/auth/oidc/device/poll", post(sign_on::poll).layer(middleware::from_fn(guard::json_only))),
        (
            "/api/v1/auth/token-exchange",
            post(exchange::exchange).layer(middleware::from_fn(guard::json_only)),
        ),
        ("/api/v1/auth/logout", post(auth::logout)),
        ("/api/v1/auth/password", post(auth::password)),
        ("/api/v1/auth/whoami", get(auth::whoami)),
        ("/api/v1/auth/can-i", post(rights::can_i)),
        ("/api/v1/auth/who-can", get(rights::who_can)),
        ("/api/v1/auth/rights", get(rights::rights)),
        ("/api/v1/admin/rotate-keys", post(signing_keys::rotate)),
        ("/api/v1/admin/lift-throttle", post(throttle::lift)),
        ("/api/v1/admin/installation", get(installation::installation)),
        ("/.well-known/mcpctl-keys", get(signing_keys::list)),
        ("/api/v1/auth/token-status", get(token_status::all)),
        ("/api/v1/{kind}", get(resources::list).post(resources::create)),
        (
            "/api/v1/{kind}/{idOrName}",
            get(resources::get).put(resources::put).patch(resources::patch).delete(resources::delete),
        ),
        ("/api/v1/{kind}/{idOrName}/status", get(status::status)),
        ("/api/v1/{kind}/{idOrName}/rotate", post(tokens::rotate)),
        ("/api/v1/{kind}/{idOrName}/test", post(llm_test::test)),
        ("/metrics", get(operation::metrics)),
        ("/openapi.json", get(operation::openapi)),
    ]
}

fn inference_routes() -> Routes<9> {
    [
        ("/v1/models", get(inference::models)),
        ("/v1/models/{idOrName}", get(inference::model)),
        ("/v1/chat/completions", post(inference::chat)),
        ("/v1/completions", post(inference::completions)),
        ("/v1/embeddings", post(inference::embeddings)),
        ("/v1/responses", post(inference::responses)),
        ("/v1/messages", post(inference::messages)),
        ("/v1/messages/count_tokens", post(inference::count_tokens)),
        ("/api/v1/{kind}/{idOrName}/infer", post(inference::infer)),
    ]
}

/// What a request is about, by its path.
pub fn workload(path: &str) -> Workload {
    match path.starts_with("/v1/") || path.ends_with("/infer") {
        true => Workload::Inference,
        false => Workload::Management,
    }
}

/// The routes that every listener has.
fn health_routes() -> Routes<2> {
    [("/healthz", get(operation::healthz)), ("/readyz", get(operation::readyz))]
}

/// Puts the admission of a listener's requests around its routes.
pub fn serve(faces: Faces, app: Arc<App>, guard: guard::Guard) -> Router {
    let Faces { routes, console } = faces;
    let admission = Arc::new(Admission { app: Arc::clone(&app), guard, console });
    routes
        .merge(router(health_routes()))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(admission, admission::admit))
        .with_state(app)
}

/// The route that serves a documented path: the document names the one kind that a route is for.
fn served_path(documented: &str) -> String {
    ["/llms/", "/limits/", "/tokens/"]
        .iter()
        .fold(documented.to_owned(), |path, kind| path.replace(kind, "/{kind}/"))
}

/// The OpenAPI document of all routes, with everything in a settled order.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = operation::Docs::openapi();
    for part in [
        resources::Docs::openapi(),
        apply::Docs::openapi(),
        watch::Docs::openapi(),
        feed::Docs::openapi(),
        auth::Docs::openapi(),
        rights::Docs::openapi(),
        audit::Docs::openapi(),
        usage::Docs::openapi(),
        journal::Docs::openapi(),
        sign_on::Docs::openapi(),
        exchange::Docs::openapi(),
        limits::Docs::openapi(),
        llm_test::Docs::openapi(),
        status::Docs::openapi(),
        signing_keys::Docs::openapi(),
        throttle::Docs::openapi(),
        installation::Docs::openapi(),
        tokens::Docs::openapi(),
        token_status::Docs::openapi(),
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
            Kind::RESOURCES.into_iter().map(|kind| format!("/api/v1/{}", kind.plural())).collect();
        // What any kind would match hides what was meant.
        let is_api = |route: &&str| !route.starts_with("/api/v1/{kind}") && !route.starts_with("/console");
        let routes = trace::ROUTES.iter().copied().filter(is_api);
        let is_page = console::admission::is_of_console(path);
        let addresses: Vec<&str> = routes.chain(kinds.iter().map(String::as_str)).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            ErrorKind::NotFoundError,
            "no_such_route",
            "there is nothing at this address",
        )
        .hint(match mcpctl_server::nearest(path, &addresses) {
            _ if is_page => {
                "the console begins at `/console/` of mcpd's main address, unless it is turned off".to_owned()
            }
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
        && path::kind(kind).is_err()
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
        "/api/v1/{kind}" | "/api/v1/agents/{agent}/journal" => "GET, HEAD and POST",
        "/api/v1/{kind}/{idOrName}" => "GET, HEAD, PUT, PATCH and DELETE",
        "/api/v1/auth/oidc/code" | "/api/v1/auth/oidc/device" | "/api/v1/auth/oidc/device/poll" => "POST",
        "/api/v1/apply"
        | "/api/v1/auth/login"
        | "/api/v1/auth/token-exchange"
        | "/api/v1/auth/logout"
        | "/api/v1/auth/password"
        | "/api/v1/auth/can-i"
        | "/api/v1/admin/rotate-keys"
        | "/api/v1/admin/lift-throttle" => "POST",
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" | "/v1/responses" => "POST",
        "/v1/messages" | "/v1/messages/count_tokens" => "POST",
        "/api/v1/{kind}/{idOrName}/infer"
        | "/api/v1/{kind}/{idOrName}/rotate"
        | "/api/v1/{kind}/{idOrName}/test" => "POST",
        "/console/sign-out"
        | "/console/llms/{name}/test"
        | "/console/playground/infer"
        | "/console/tokens/{name}/rotate" => "POST",
        "/console/sign-in"
        | "/console/secrets"
        | "/console/secrets/{name}"
        | "/console/tokens"
        | "/console/tokens/{name}/revoke"
        | "/console/access/revoke"
        | "/console/people/{kind}/{name}/{action}" => "GET, HEAD and POST",
        _ => "GET and HEAD",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Tests of whole daemons take their routes from the OpenAPI document, so every route has to be in it.
    #[test]
    fn every_route_is_documented_and_named_in_metrics() {
        let (management, inference, health) = (management_routes(), inference_routes(), health_routes());
        let served: BTreeSet<String> =
            management.iter().chain(&inference).chain(&health).map(|(path, _)| (*path).to_owned()).collect();
        // Pages are for people, so the document of the API does not list them.
        let pages = console::routes().into_iter().map(|(path, _)| path.to_owned());
        let named: BTreeSet<String> = served.iter().cloned().chain(pages).collect();
        assert_eq!(named, trace::ROUTES.map(str::to_owned).into_iter().collect());
        let documented: BTreeSet<_> =
            openapi().paths.paths.into_keys().map(|path| served_path(&path)).collect();
        assert_eq!(served, documented);
    }

    #[test]
    fn workload_of_a_path_is_that_of_its_route() {
        for (path, _) in &inference_routes() {
            assert_eq!(workload(path), Workload::Inference, "{path}");
        }
        for (path, _) in management_routes().iter().chain(&health_routes()) {
            assert_eq!(workload(path), Workload::Management, "{path}");
        }
    }
}
