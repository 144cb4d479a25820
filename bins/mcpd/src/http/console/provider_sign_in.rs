//! Signing in at an OpenID provider, with the browser that the console is open in: to the provider, and back with a code.
//!
//! What binds the way back to this browser is made of one secret in a cookie: the state, the nonce and the verifier of the challenge
//! (RFC 7636). So an answer that another site sends here, or that another browser asked for, is refused before the code is used.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Redirect, Response},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use mcpctl_api::{ErrorKind, visible};
use mcpctl_issuer::AuthorizationCode;
use mcpctl_secret::token::{self, Prefix, TokenHash};
use mcpctl_server::Peer;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use url::form_urlencoded;

use super::{
    super::{error::HttpError, guard::SEC_FETCH_SITE, path::Path, query::Query},
    cookies::Cookie,
    return_path::ReturnPath,
    sign_in::{end_previous, not_private, set_cookie, signed_in},
    visit::Visit,
};
use crate::{app::App, clock, sign_on};

/// How long a person may take at the provider.
const MAX_TIME: SignedDuration = SignedDuration::from_mins(10);
/// How much of a provider's error is shown, in bytes.
const MAX_ERROR_BYTES: usize = 300;
/// Where providers send the browser back to.
const RETURN: &str = "/console/sign-in/return";

/// A sign-in that has begun in this browser.
struct Begun {
    secret: String,
    provider: String,
    return_to: ReturnPath,
}

impl Begun {
    /// As a cookie: the secret, the provider's name and the page to return to, none of which has a `/` as it is written here.
    fn to_cookie(&self) -> String {
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        format!("{}/{}/{}", self.secret, encoded(&self.provider), encoded(self.return_to.as_str()))
    }

    fn from_cookie(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let (secret, provider, return_to) = (parts.next()?, parts.next()?, parts.next()?);
        token::verify_shape(Prefix::Mcpd, secret).ok()?;
        let decoded =
            |text: &str| form_urlencoded::parse(text.as_bytes()).next().map(|(text, _)| text.into_owned());
        let (provider, return_to) = (decoded(provider)?, decoded(return_to)?.into());
        Some(Self { secret: secret.to_owned(), provider, return_to })
    }

    /// A text that only this browser and mcpd can make.
    fn derived(&self, purpose: &str) -> TokenHash {
        token::hash(&format!("{purpose} of a sign-in, {}", self.secret))
    }
}

/// The query of the beginning.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BeginQuery {
    return_to: ReturnPath,
}

/// Sends the browser to a provider.
pub async fn begin(
    State(app): State<Arc<App>>,
    visit: Visit,
    headers: HeaderMap,
    Path(name): Path<String>,
    query: Query<BeginQuery>,
) -> Result<Response, HttpError> {
    if !visit.is_private {
        return Err(not_private());
    }
    let from = headers.get(SEC_FETCH_SITE);
    if from.is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(refused("another site has begun this sign-in"));
    }
    let provider = app.sign_on.provider(&name).map_err(sign_on::SignOnDenial::from)?;
    let metadata = provider.issuer.metadata().await.map_err(|error| unavailable(&error.to_string()))?;
    let Some(endpoint) = &metadata.authorization_endpoint else {
        return Err(unavailable("the provider has no page for signing in"));
    };
    let secret = token::mint(Prefix::Mcpd).map_err(|_| HttpError::internal())?.expose().to_owned();
    let begun = Begun { secret, provider: name, return_to: query.0.return_to };
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(begun.derived("verifier").to_string()));
    let mut address = endpoint.clone();
    address
        .query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &provider.config.client_id)
        .append_pair("redirect_uri", &redirect_uri(&app, &visit)?)
        .append_pair("scope", &provider.config.scopes.join(" "))
        .append_pair("state", &begun.derived("state").to_string())
        .append_pair("nonce", &begun.derived("nonce").to_string())
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    let mut response = Redirect::to(address.as_str()).into_response();
    let ends_at = clock::now().checked_add(MAX_TIME).unwrap_or(Timestamp::MAX);
    set_cookie(&mut response, Cookie::SignIn.set(visit.host.as_ref(), &begun.to_cookie(), Some(ends_at)));
    Ok(response)
}

/// The answer of a provider; what else providers put there is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReturnQuery {
    code: String,
    state: String,
    iss: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
}

/// Begins the session of a person who comes back from a provider.
pub async fn callback(
    State(app): State<Arc<App>>,
    visit: Visit,
    peer: Peer,
    headers: HeaderMap,
    query: Query<ReturnQuery>,
) -> Response {
    let forgotten = Cookie::SignIn.clear(visit.host.as_ref());
    let begun = Cookie::SignIn.read(&headers, visit.host.as_ref()).and_then(Begun::from_cookie);
    let session = match &begun {
        Some(begun) => Box::pin(finish(&app, &visit, peer, &headers, begun, query.0)).await,
        None => Err(refused("this browser has begun no sign-in, or it has taken too long")),
    };
    let mut response = session.unwrap_or_else(HttpError::into_response);
    // A code counts once, whatever came of it.
    set_cookie(&mut response, forgotten);
    response
}

async fn finish(
    app: &Arc<App>,
    visit: &Visit,
    peer: Peer,
    headers: &HeaderMap,
    begun: &Begun,
    answer: ReturnQuery,
) -> Result<Response, HttpError> {
    if !answer.state.parse::<TokenHash>().is_ok_and(|state| state == begun.derived("state")) {
        return Err(refused("the provider's answer belongs to another sign-in"));
    }
    let provider = app.sign_on.provider(&begun.provider).map_err(sign_on::SignOnDenial::from)?;
    let metadata = provider.issuer.metadata().await.map_err(|error| unavailable(&error.to_string()))?;
    // RFC 9207: an answer of another provider, which a mix-up would bring here.
    let is_of_provider = match &answer.iss {
        Some(issuer) => issuer == provider.issuer.url().as_str(),
        None => !metadata.names_issuer,
    };
    if !is_of_provider {
        return Err(refused("the answer is of another provider"));
    }
    if let Some(error) = answer.error {
        let text = answer.error_description.unwrap_or(error);
        let text = visible::short(&visible::one_line(&text), MAX_ERROR_BYTES);
        return Err(refused(&format!("the provider does not sign you in: {text}")));
    }
    let code = AuthorizationCode {
        code: &answer.code,
        verifier: &begun.derived("verifier").to_string(),
        redirect_uri: &redirect_uri(app, visit)?,
        nonce: &begun.derived("nonce").to_string(),
    };
    let network = app.logins.network(peer, headers);
    let session =
        Box::pin(sign_on::with_authorization(app, network, &begun.provider, &code, Prefix::Console)).await?;
    end_previous(app, visit, headers).await;
    Ok(signed_in(visit, &session, &begun.return_to))
}

/// Where the provider sends the browser back to, by the name that the browser calls mcpd by. The provider accepts what is registered
/// there alone.
fn redirect_uri(app: &App, visit: &Visit) -> Result<String, HttpError> {
    let host = visit.host.as_ref().ok_or_else(HttpError::internal)?;
    let is_plain = app.facts.tls.is_none() && mcpctl_server::is_loopback(host);
    let scheme = if is_plain { "http" } else { "https" };
    Ok(format!("{scheme}://{host}{RETURN}"))
}

fn refused(message: &str) -> HttpError {
    HttpError::new(StatusCode::FORBIDDEN, ErrorKind::PermissionError, "sign_in_refused", message)
        .hint("begin the sign-in again, from the console")
}

fn unavailable(message: &str) -> HttpError {
    HttpError::new(StatusCode::SERVICE_UNAVAILABLE, ErrorKind::ServerError, "provider_unavailable", message)
        .hint("try again, or sign in with a password or a token")
}
