//! Authenticates every request, except on the public routes.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request},
    http::{Extensions, HeaderMap, StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
};
use mcpctl_secret::{
    query,
    token::{self, Prefix, TokenHash},
};
use mcpctl_server::{Connection, caller_dialect, presented};

use super::{error::HttpError, probe};
use crate::{app::App, caller::Caller, clock};

/// Routes that need no credential; they show nothing about resources. Every other route is authenticated.
pub const PUBLIC: [&str; 10] = [
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/api/v1/auth/methods",
    "/api/v1/auth/login",
    "/api/v1/auth/oidc/code",
    "/api/v1/auth/oidc/device",
    "/api/v1/auth/oidc/device/poll",
    "/api/v1/auth/token-exchange",
    "/.well-known/mcpctl-keys",
];

/// Authenticates the caller, who is an extension of the request from then on; or answers in the place of the handler.
pub async fn require(app: &Arc<App>, request: &mut Request) -> Result<(), Response> {
    no_credential_in_address(request).map_err(HttpError::into_response)?;
    if PUBLIC.contains(&request.uri().path()) {
        return Ok(());
    }
    let caller = match bearer(request.headers()) {
        Ok(hash) => authenticate(app, request, hash).await,
        Err(error) => Err(error),
    };
    match caller {
        Ok(()) => Ok(()),
        Err(error) => Err(refused(app, request, error).await),
    }
}

/// A credential in an address ends up in logs and histories, so it is rejected even if it is valid.
pub(super) fn no_credential_in_address(request: &Request) -> Result<(), HttpError> {
    match request.uri().query() {
        Some(query) if query::carries_credential(query) => {
            Err(HttpError::invalid("", "a credential does not belong into the address")
                .hint("send it as `Authorization: Bearer …`, and replace it: addresses are logged"))
        }
        _ => Ok(()),
    }
}

/// Authenticates the credential with this hash. The caller is an extension of the request from then on.
pub(super) async fn authenticate(app: &App, request: &mut Request, hash: TokenHash) -> Result<(), HttpError> {
    let caller = app.authenticate(hash).await?;
    let subject = caller.principal.subject.to_string();
    mcpctl_server::access_line(|line| line.principal = Some(subject));
    if let Some(connection) = request.extensions().get::<Connection>() {
        connection.authenticated();
    }
    app.token_uses.note(&caller.principal.token, clock::now());
    request.extensions_mut().insert(caller);
    Ok(())
}

/// The answer to a request without a valid credential; a probe gets it signed.
async fn refused(app: &Arc<App>, request: &mut Request, error: HttpError) -> Response {
    let mut response = error.into_response();
    // Only the denial is signed, not that nothing could be decided.
    if response.status() == StatusCode::UNAUTHORIZED {
        let (mut parts, _) = std::mem::take(request).into_parts();
        Box::pin(probe::deny_stranger(app, &mut parts, &mut response)).await;
    }
    response
}

/// The hash of the bearer. The checksum in the token is verified first, so that noise costs no read of the store.
fn bearer(headers: &HeaderMap) -> Result<TokenHash, HttpError> {
    let text = presented(headers, caller_dialect())
        .map_err(|error| HttpError::unauthenticated(&error.to_string()))?;
    token::parse(Prefix::Mcpd, text).map_err(|_| HttpError::unauthenticated("the credential is not valid"))
}

impl Caller {
    /// Takes the caller out of an authenticated request.
    pub(super) fn take(extensions: &mut Extensions) -> Result<Self, HttpError> {
        // INVARIANT 8: without authentication, a handler that needs a caller denies.
        extensions.remove::<Self>().ok_or_else(|| HttpError::unauthenticated("no credential was sent"))
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        Self::take(&mut parts.extensions)
    }
}
