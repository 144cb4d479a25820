//! Denies web pages, other machines and callers without a credential, before a byte of a body is read: the agent is for
//! programs of this machine.
//!
//! A page that a browser shows can send requests to loopback addresses, and by DNS rebinding under a name of its own. So
//! a foreign `Host` and any `Origin` that is not allow-listed are refused before routing.

use std::sync::Arc;

use axum::{
    extract::{DefaultBodyLimit, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytesize::ByteSize;
use mcpctl_api::ErrorKind;
use mcpctl_server::{BodyOwner, Connection, is_loopback, origin_is_allowed, requested_host};

use super::{error::LocalHttpError, parts::known_parameters};
use crate::{
    app::{App, Runtime},
    identity,
    journal::caller_name,
};

/// Largest body of an inference request; the same as mcpd's.
const BODY: ByteSize = ByteSize::mib(32);
/// Owners of the memory for bodies: this machine's user, and together all callers whose bearer only mcpd can judge.
const LOCAL: &str = "local";
const BEARER: &str = "bearer";

/// A caller of the inference routes, and the configuration that it was identified with.
#[derive(Clone)]
pub struct Caller {
    /// INVARIANT 10: the configuration that identified the caller, so that a bearer of one server never goes to another.
    pub runtime: Arc<Runtime>,
    /// The caller.
    pub identity: identity::Caller,
}

/// Denies requests that do not come from a program of this machine.
pub fn from_this_machine(app: &App, request: &Request) -> Result<(), LocalHttpError> {
    let allowed = &app.runtime.load().config.allowed_origins;
    let refused = |code: &str, message: &str| {
        LocalHttpError::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, code, message)
    };
    let host = requested_host(request.uri(), request.headers());
    if !host.is_some_and(|host| is_loopback(&host)) {
        return Err(refused("foreign_host", "the agent is called by a name that is not this machine's"));
    }
    if !origin_is_allowed(request.headers(), allowed) {
        return Err(refused("foreign_origin", "web pages may not call the agent"));
    }
    LocalHttpError::credential_in_address(request.uri()).map_or(Ok(()), Err)
}

/// The layer of routes that show nothing about this machine: admits every program of it.
pub async fn anyone(request: Request, next: Next) -> Response {
    match known_parameters(&request) {
        Ok(()) => next.run(request).await,
        Err(unknown) => unknown.into_response(),
    }
}

/// The layer of the agent's own routes: admits callers with the local key.
pub async fn local_key(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Err(unknown) = app.identity.local(request.headers()) {
        return LocalHttpError::from(unknown).into_response();
    }
    authenticated(&request);
    mcpctl_server::access_line(|line| line.principal = Some(LOCAL.to_owned()));
    anyone(request, next).await
}

/// The layer of inference: admits callers with the local key or a bearer of mcpd's, and reads the body within the limits.
pub async fn caller(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let runtime = app.runtime.load_full();
    let identity = match app.identity.caller(request.headers(), &runtime.config.server) {
        Ok(identity) => identity,
        Err(unknown) => return LocalHttpError::from(unknown).into_response(),
    };
    let connection = request.extensions().get::<Connection>().cloned();
    let (local, owner) = (identity.local, if identity.local { LOCAL } else { BEARER });
    if local {
        authenticated(&request);
    }
    let who = caller_name(identity.user.as_deref(), &identity.bearer);
    mcpctl_server::access_line(|line| line.principal = Some(who));
    request.extensions_mut().insert(Caller { runtime, identity });
    if let Err(unknown) = known_parameters(&request) {
        return unknown.into_response();
    }
    // The limits are those below.
    DefaultBodyLimit::disable().apply(&mut request);
    if matches!(*request.method(), Method::POST) {
        request = match app.bodies.read(request, BODY, BodyOwner::Caller(owner)).await {
            Ok(request) => request,
            Err(error) => return LocalHttpError::body(&error),
        };
    }
    let response = next.run(request).await;
    // Only after a success, because only mcpd can judge a bearer.
    if let (false, true, Some(connection)) = (local, response.status().is_success(), connection) {
        connection.authenticated();
    }
    response
}

fn authenticated(request: &Request) {
    if let Some(connection) = request.extensions().get::<Connection>() {
        connection.authenticated();
    }
}
