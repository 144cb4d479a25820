//! Signing in with a password or a token, and signing out. Either way begins a new session at the store, whose token the cookie holds.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Redirect, Response},
};
use mcpctl_api::{ErrorKind, Name, error::ErrorBody, question::IssuedToken, spec::SecretValue};
use mcpctl_secret::token::{self, Prefix};
use mcpctl_server::Peer;
use serde::Deserialize;

use super::{
    super::{error::HttpError, query::Query},
    cookies::Cookie,
    form::Form,
    frame::Frame,
    page,
    return_path::ReturnPath,
    text,
    visit::Visit,
};
use crate::{
    app::App,
    caller::Caller,
    commit::{WriteOptions, commit},
    sessions,
    writes::Intent,
};

/// The query of the page.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SignInQuery {
    return_to: ReturnPath,
    signed_out: bool,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage<'a> {
    frame: Frame,
    return_to: &'a str,
    is_private: bool,
    signed_out: bool,
    providers: Vec<&'a Name>,
    user: &'a str,
    error: Option<&'a ErrorBody>,
}

/// Shows the forms of the sign-in.
pub async fn page(
    State(app): State<Arc<App>>,
    visit: Visit,
    headers: HeaderMap,
    query: Query<SignInQuery>,
) -> Result<Response, HttpError> {
    let SignInQuery { return_to, signed_out } = query.0;
    let page = SignInPage {
        frame: Frame::new(&visit, None, "Sign in"),
        return_to: return_to.as_str(),
        is_private: visit.is_private,
        // A link from elsewhere ends no session.
        signed_out: signed_out && Cookie::Session.read(&headers, visit.host.as_ref()).is_none(),
        providers: app.sign_on.names().collect(),
        user: "",
        error: None,
    };
    page::show(StatusCode::OK, &page)
}

/// One of the forms.
#[derive(Deserialize)]
pub struct SignInForm {
    #[serde(default)]
    return_to: ReturnPath,
    user: Option<String>,
    password: Option<SecretValue>,
    token: Option<SecretValue>,
}

/// Begins a session.
pub async fn sign_in(
    State(app): State<Arc<App>>,
    visit: Visit,
    peer: Peer,
    headers: HeaderMap,
    Form(form): Form<SignInForm>,
) -> Result<Response, HttpError> {
    if !visit.is_private {
        return Err(not_private());
    }
    let begun = begin(&app, &form, peer, &headers).await;
    match begun {
        Ok(session) => {
            end_previous(&app, &visit, &headers).await;
            Ok(signed_in(&visit, &session, &form.return_to))
        }
        Err(error) => {
            let page = SignInPage {
                frame: Frame::new(&visit, None, "Sign in"),
                return_to: form.return_to.as_str(),
                is_private: true,
                signed_out: false,
                providers: app.sign_on.names().collect(),
                user: form.user.as_deref().unwrap_or_default(),
                error: Some(error.body()),
            };
            let mut response = page::show(error.status(), &page)?;
            if let Some(wait) = error.into_response().headers().get(header::RETRY_AFTER) {
                response.headers_mut().insert(header::RETRY_AFTER, wait.clone());
            }
            Ok(response)
        }
    }
}

async fn begin(
    app: &App,
    form: &SignInForm,
    peer: Peer,
    headers: &HeaderMap,
) -> Result<IssuedToken, HttpError> {
    match (&form.user, &form.password, &form.token) {
        (Some(user), Some(password), None) => {
            let network = app.logins.network(peer, headers);
            Ok(sessions::begin(app, network, user.trim(), password, Prefix::Console).await?)
        }
        (None, None, Some(token)) => {
            let hash = token::parse(Prefix::Mcpd, token.expose().trim()).map_err(|_| {
                HttpError::unauthenticated("this is not a token of mcpd")
                    .hint("it begins with `mcpd_`; copy it whole, e.g. from the file that the first start of mcpd wrote")
            })?;
            let begun = Box::pin(sessions::begin_with_token(app, hash)).await.map_err(HttpError::from);
            // The API's words are about a bearer.
            begun.map_err(|error| match error.status() {
                StatusCode::UNAUTHORIZED => error.hint(
                    "it has ended, or its account is disabled: take another token, or sign in in another way",
                ),
                _ => error,
            })
        }
        _ => Err(HttpError::invalid("", "give a user and a password, or a token")),
    }
}

/// Ends the session that the browser had before, which no cookie holds any more.
pub(super) async fn end_previous(app: &Arc<App>, visit: &Visit, headers: &HeaderMap) {
    let previous = Cookie::Session.read(headers, visit.host.as_ref());
    let Some(Ok(hash)) = previous.map(|text| token::parse(Prefix::Console, text)) else { return };
    // One that is not valid has ended already.
    let Ok(caller) = app.authenticate(hash).await else { return };
    if let Err(error) = commit(app, caller, vec![Intent::EndSession], WriteOptions::default()).await {
        let error = HttpError::from(error.cause);
        tracing::warn!(
            error = error.body().message,
            "the previous session of a browser goes on until it expires"
        );
    }
}

/// The way to the page that was asked for, with the cookie of the new session.
pub(super) fn signed_in(visit: &Visit, session: &IssuedToken, return_to: &ReturnPath) -> Response {
    let mut response = Redirect::to(return_to.as_str()).into_response();
    let cookie = Cookie::Session.set(visit.host.as_ref(), session.token.expose(), Some(session.expires_at));
    set_cookie(&mut response, cookie);
    // Another sign-in of this browser begins with another secret.
    set_cookie(&mut response, Cookie::Visitor.clear(visit.host.as_ref()));
    response
}

/// Sets or removes a cookie.
pub(super) fn set_cookie(response: &mut Response, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// What a sign-in is answered with where it could be read.
pub(super) fn not_private() -> HttpError {
    HttpError::new(
        StatusCode::FORBIDDEN,
        ErrorKind::PermissionError,
        "not_private",
        "this connection can be read on its way, so mcpd accepts no password or token here",
    )
    .hint("call mcpd by `https://` (docs: TLS), or on its own machine by `http://localhost`")
}

/// The form of the sign-out has no fields but its token.
#[derive(Deserialize)]
pub struct SignOutForm {}

/// Ends the session at the store, and forgets its cookie.
pub async fn sign_out(
    State(app): State<Arc<App>>,
    visit: Visit,
    caller: Caller,
    Form(SignOutForm {}): Form<SignOutForm>,
) -> Result<Response, HttpError> {
    commit(&app, caller, vec![Intent::EndSession], WriteOptions::default())
        .await
        .map_err(|error| error.cause)?;
    let mut response = Redirect::to("/console/sign-in?signed_out=true").into_response();
    set_cookie(&mut response, Cookie::Session.clear(visit.host.as_ref()));
    Ok(response)
}
