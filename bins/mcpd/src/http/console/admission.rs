//! What each request to the console passes before its page, and what each page is sent with.
//!
//! The cookie of a session is read here and nowhere else, so that no route of the API is ever authenticated by one; and a page is
//! never authenticated by a header.

use std::{panic::AssertUnwindSafe, sync::Arc};

use axum::{
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Redirect, Response},
};
use futures::FutureExt as _;
use mcpctl_secret::token::{self, Prefix};

use super::{
    super::{
        authentication, body,
        error::{ErrorOfResponse, HttpError},
        guard::Guard,
    },
    cookies::Cookie,
    page,
    return_path::ReturnPath,
    sign_in::set_cookie,
    visit::Visit,
};
use crate::{app::App, caller::Caller};

/// The page that is shown to anyone.
const SIGN_IN: &str = "/console/sign-in";
/// Below them are the ways to and from providers, and the files that pages load.
const PUBLIC: [&str; 2] = ["/console/sign-in/", "/console/assets/"];

/// Nothing is loaded, sent or framed but from and by mcpd itself; neither scripts nor styles are written into a page.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Headers of every response. `same-origin` keeps addresses from other sites; without a referrer at all, browsers send forms with the
/// origin `null`.
const HEADERS: [(&str, &str); 7] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

/// Whether an address belongs to the console.
pub fn is_of_console(path: &str) -> bool {
    path == "/console" || path.starts_with("/console/")
}

/// Admits a request to the console, makes its page, and makes pages of errors.
pub async fn admit(app: &Arc<App>, guard: &Guard, mut request: Request, next: Next) -> Response {
    let here = here(&request);
    let before = before(&request);
    let wants_page = is_navigation(&request);
    let is_sign_in = request.method() == Method::GET && request.uri().path() == SIGN_IN;
    let mut visit = match Visit::of_visitor(app, &request) {
        Ok(visit) => visit,
        Err(error) => return protected(error.into_response()),
    };
    let had_session = Cookie::Session.is_in(request.headers(), visit.host.as_ref());
    let response = match admitted(app, guard, &mut request, &mut visit).await {
        Ok(()) => {
            request.extensions_mut().insert(visit.clone());
            match body::read(app, request).await {
                Ok(request) => own_words(visit.account.is_some(), caught(next.run(request)).await),
                Err(error) => error.into_response(),
            }
        }
        Err(error) => {
            let is_signed_out = error.status() == StatusCode::UNAUTHORIZED;
            let mut response = match is_signed_out && wants_page {
                true => Redirect::to(&here.sign_in()).into_response(),
                false => error.into_response(),
            };
            // A browser forgets what is no session, even if another server of this host planted it.
            if is_signed_out && had_session {
                set_cookie(&mut response, Cookie::Session.clear(visit.host.as_ref()));
            }
            response
        }
    };
    let mut response = match response.extensions().get::<ErrorOfResponse>() {
        Some(ErrorOfResponse(error)) => {
            let made = page::error(&visit, response.status(), error, here, before, response.headers());
            made.unwrap_or_else(HttpError::into_response)
        }
        None => response,
    };
    // Only the form of the sign-in is bound to a browser that is not signed in.
    if is_sign_in && response.status().is_success() {
        visit.remember(&mut response);
    }
    protected(response)
}

/// The response of a page, or the error in its place where the page panics.
async fn caught(page: impl Future<Output = Response>) -> Response {
    // INVARIANT 8: a panic is a denial; its message is on stderr already.
    AssertUnwindSafe(page).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a page of the console panicked");
        HttpError::internal().into_response()
    })
}

/// Authenticates the session, except for the pages that need none.
async fn admitted(
    app: &Arc<App>,
    guard: &Guard,
    request: &mut Request,
    visit: &mut Visit,
) -> Result<(), HttpError> {
    guard.check_console(request)?;
    authentication::no_credential_in_address(request)?;
    let path = request.uri().path();
    if path == SIGN_IN || PUBLIC.iter().any(|public| path.starts_with(public)) {
        return Ok(());
    }
    let signed_out = || HttpError::unauthenticated("you are not signed in").hint("sign in, then try again");
    let cookie = Cookie::Session.read(request.headers(), visit.host.as_ref()).ok_or_else(signed_out)?;
    let cookie = secrecy::SecretString::from(cookie);
    let session = secrecy::ExposeSecret::expose_secret(&cookie);
    let hash = token::parse(Prefix::Console, session).map_err(|_| signed_out())?;
    authentication::authenticate(app, request, hash).await.map_err(|error| match error.status() {
        StatusCode::UNAUTHORIZED => session_ended(),
        _ => error,
    })?;
    // INVARIANT 8: without the caller, the pages deny.
    let caller = request.extensions().get::<Caller>().ok_or_else(signed_out)?;
    let account = caller.principal.subject.name.to_string();
    *visit = visit.clone().signed_in(account, session);
    Ok(())
}

fn session_ended() -> HttpError {
    HttpError::unauthenticated("your session has ended").hint("sign in, then try again")
}

/// A session that has ended while a page ran is an error in the words of the console: those of the API are about a bearer.
fn own_words(is_signed_in: bool, response: Response) -> Response {
    let has_error = response.extensions().get::<ErrorOfResponse>().is_some();
    match response.status() {
        StatusCode::UNAUTHORIZED if has_error && is_signed_in => session_ended().into_response(),
        _ => response,
    }
}

/// The page that a sign-in returns to.
fn here(request: &Request) -> ReturnPath {
    match request.method() {
        &Method::GET => request.uri().path_and_query().map(ToString::to_string).unwrap_or_default().into(),
        _ => ReturnPath::default(),
    }
}

/// The page of the console with the link or the form that led to a request.
fn before(request: &Request) -> Option<ReturnPath> {
    let referrer = request.headers().get(header::REFERER)?.to_str().ok()?.parse::<Uri>().ok()?;
    let before = ReturnPath::from(referrer.path_and_query()?.to_string());
    (before != ReturnPath::default()).then_some(before)
}

/// Whether a browser shows the response as a page, and not a script.
fn is_navigation(request: &Request) -> bool {
    let mode = request.headers().get("sec-fetch-mode");
    request.method() == Method::GET && mode.is_none_or(|mode| mode == "navigate")
}

fn protected(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // Pages show what the next person at the browser may not see; the files that they load are the same for all.
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(header::VARY, HeaderValue::from_static("cookie"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_that_ends_while_a_page_runs_is_an_error_in_own_words() {
        let hint = |is_signed_in| {
            let error = HttpError::unauthenticated("the credential is not valid").into_response();
            let response = own_words(is_signed_in, error);
            response.extensions().get::<ErrorOfResponse>().unwrap().0.hint.clone().unwrap()
        };
        assert_eq!(hint(true), "sign in, then try again");
        assert!(hint(false).contains("Bearer"), "what a sign-in answers is kept");
    }

    #[tokio::test]
    async fn panic_of_a_page_is_an_error_of_a_page() {
        let page = async || -> Response { panic!("a page panics") };
        let response = caught(page()).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let ErrorOfResponse(error) = response.extensions().get().unwrap();
        assert_eq!(error.code.as_deref(), Some("internal"));
    }
}
