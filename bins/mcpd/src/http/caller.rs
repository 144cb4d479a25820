//! Who calls: every route but a few is authenticated before its handler runs.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use mcpctl_access::{Principal, Snapshot};
use mcpctl_secret::{
    query,
    token::{self, Prefix, TokenHash},
};
use mcpctl_server::Connection;

use super::error::HttpError;
use crate::app::App;

/// Routes that nobody needs to sign in for; every other one is authenticated. They tell nothing about resources.
pub const PUBLIC: [&str; 4] = ["/healthz", "/readyz", "/openapi.json", "/api/v1/auth/login"];

/// An authenticated caller, and the snapshot in which it was authenticated.
#[derive(Clone)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// At least as new as the store was when the request arrived.
    pub snapshot: Arc<Snapshot>,
    bearer: TokenHash,
}

impl Caller {
    /// The same caller in a newer snapshot, for a decision that is made again.
    ///
    /// # Errors
    /// When the credential is no longer good.
    pub async fn again(&self, app: &App) -> Result<Self, HttpError> {
        authenticate(app, self.bearer).await
    }
}

/// The layer: freshen, authenticate, then the handler.
pub async fn require(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    if let Some(query) = request.uri().query()
        && query::carries_credential(query)
    {
        // It would end up in logs and histories, so it is refused even where it is good.
        return HttpError::invalid("", "a credential does not belong into the address")
            .hint("send it as `Authorization: Bearer …`, and replace it: addresses are logged")
            .into_response();
    }
    if PUBLIC.contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let caller = match bearer(request.headers()) {
        Ok(hash) => authenticate(&app, hash).await,
        Err(error) => Err(error),
    };
    match caller {
        Ok(caller) => {
            tracing::Span::current().record("principal", tracing::field::display(&caller.principal.subject));
            if let Some(connection) = request.extensions().get::<Connection>() {
                connection.authenticated();
            }
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

async fn authenticate(app: &App, bearer: TokenHash) -> Result<Caller, HttpError> {
    // Freshen before authenticating, so that a token that was deleted anywhere is refused here too (INVARIANT 5).
    let snapshot = app.fresh().await?;
    let principal = snapshot.authenticate(bearer.as_bytes(), app.now())?;
    Ok(Caller { principal, snapshot, bearer })
}

/// The hash of the bearer; the checksum in a token's text is verified first, so that noise costs no read of the store.
fn bearer(headers: &HeaderMap) -> Result<TokenHash, HttpError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) => return Err(HttpError::unauthenticated("no credential was sent")),
        (Some(_), Some(_)) => return Err(HttpError::unauthenticated("more than one credential was sent")),
    };
    let text = value.to_str().ok().and_then(|text| {
        let (scheme, credential) = text.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(credential.trim())
    });
    let text = text.ok_or_else(|| HttpError::unauthenticated("the credential is not a bearer token"))?;
    token::parse(Prefix::Mcpd, text).map_err(|_| HttpError::unauthenticated("the credential is not valid"))
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        // INVARIANT 8: a handler that asks for a caller on a route without the layer denies.
        parts
            .extensions
            .get::<Self>()
            .cloned()
            .ok_or_else(|| HttpError::unauthenticated("no credential was sent"))
    }
}
