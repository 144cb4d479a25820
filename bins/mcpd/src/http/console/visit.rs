//! What is known of a request before its page is made: which browser it comes from, and who is signed in there.

use axum::{
    extract::{FromRequestParts, Request},
    http::{HeaderMap, HeaderValue, header, request::Parts, uri::Authority},
    response::Response,
};
use mcpctl_secret::token::{self, Prefix, TokenHash};
use mcpctl_server::{is_loopback, requested_host};

use super::{
    super::{error::HttpError, guard::SEC_FETCH_SITE},
    cookies::Cookie,
};
use crate::app::App;

/// One request of a browser.
#[derive(Clone)]
pub struct Visit {
    /// The host that the browser called.
    pub host: Option<Authority>,
    /// Whether the browser calls over TLS or from this machine, so that its cookies and passwords are not read on the way.
    pub is_private: bool,
    /// The account that is signed in.
    pub account: Option<String>,
    /// Binds the forms of the page.
    pub form_token: FormToken,
    /// Sets the cookie that the form token is made of, where the browser had none.
    new_visitor: Option<HeaderValue>,
}

impl Visit {
    /// The visit of a browser that is not signed in.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn of_visitor(app: &App, request: &Request) -> Result<Self, HttpError> {
        let host = requested_host(request.uri(), request.headers());
        let known = Cookie::Visitor.read(request.headers(), host.as_ref());
        let (form_token, new_visitor) =
            match known.filter(|text| token::verify_shape(Prefix::Mcpd, text).is_ok()) {
                Some(secret) => (FormToken::of(secret), None),
                None => {
                    let minted = token::mint(Prefix::Mcpd).map_err(|_| HttpError::internal())?;
                    let cookie = Cookie::Visitor.set(host.as_ref(), minted.expose(), None);
                    (FormToken::of(minted.expose()), cookie)
                }
            };
        let is_private = is_private(app, request.headers(), host.as_ref());
        Ok(Self { host, is_private, account: None, form_token, new_visitor })
    }

    /// The same of a browser whose session has this token.
    pub fn signed_in(self, account: String, session: &str) -> Self {
        Self { account: Some(account), form_token: FormToken::of(session), new_visitor: None, ..self }
    }

    /// Sets the cookie that the next request is recognized by.
    pub fn remember(&self, response: &mut Response) {
        if let Some(cookie) = &self.new_visitor {
            response.headers_mut().append(header::SET_COOKIE, cookie.clone());
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Visit {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, HttpError> {
        parts.extensions.get().cloned().ok_or_else(HttpError::internal)
    }
}

/// Whether a browser calls over TLS, or this machine: mcpd's own TLS, a loopback name, or what browsers send only then. A reverse proxy
/// may end TLS, so that mcpd sees none.
fn is_private(app: &App, headers: &HeaderMap, host: Option<&Authority>) -> bool {
    let of_https = |origin: &HeaderValue| origin.as_bytes().starts_with(b"https://");
    app.facts.tls.is_some()
        || host.is_some_and(is_loopback)
        || headers.contains_key(SEC_FETCH_SITE)
        || headers.get(header::ORIGIN).is_some_and(of_https)
}

/// A hidden field of each form: only a page that was made for this browser has it.
#[derive(Clone, Copy)]
pub struct FormToken(TokenHash);

impl FormToken {
    /// Of the secret in a cookie, which it does not show.
    pub(super) fn of(secret: &str) -> Self {
        Self(token::hash(&format!("form of the console, {secret}")))
    }

    /// Whether a form has it.
    pub fn matches(&self, text: &str) -> bool {
        text.parse::<TokenHash>().is_ok_and(|hash| hash == self.0)
    }
}

impl std::fmt::Display for FormToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
