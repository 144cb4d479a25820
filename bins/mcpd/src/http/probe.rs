//! The signed answer to a probe: `HEAD /api/v1/llms/:idOrName` with a nonce. Every status that a decision has is signed, the
//! denials too, and nothing else is.

use axum::{
    extract::{FromRequestParts as _, MatchedPath, Path as AxumPath},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    response::Response,
};
use mcpctl_access::{
    FailoverDecision, Principal,
    proof::{BearerHash, LeaseClaims, ProofClaims, ProofQuestion},
};
use mcpctl_api::{
    Id, Kind,
    header::{ACCESS_LEASE, ACCESS_PROOF, AGENT, LLM_ID, PROBE_NONCE},
};
use mcpctl_server::{caller_dialect, presented};

use super::error::HttpError;
use crate::{app::App, clock};

/// The question of a probe; `None` where the request has no nonce, or asks for a text that no Llm is called.
///
/// # Errors
/// When the nonce or the agent is malformed, missing or there twice.
pub(super) fn question(headers: &HeaderMap, asked: &str) -> Result<Option<ProofQuestion>, HttpError> {
    if !headers.contains_key(PROBE_NONCE) {
        return Ok(None);
    }
    let nonce = only(headers, &PROBE_NONCE)?.parse().map_err(|error| {
        HttpError::invalid(PROBE_NONCE.as_str(), format!("the nonce is malformed: {error}"))
    })?;
    let agent: Id = only(headers, &AGENT)?
        .parse()
        .map_err(|_| HttpError::invalid(AGENT.as_str(), "the agent's id is malformed"))?;
    if asked.len() > ProofQuestion::MAX_ASKED {
        return Ok(None);
    }
    let bearer = presented(headers, caller_dialect()).ok().map(BearerHash::of);
    Ok(Some(ProofQuestion { nonce, agent, bearer, asked: asked.to_owned() }))
}

/// The value of a header that has to be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<&'a str, HttpError> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
    .ok_or_else(|| HttpError::invalid(name.as_str(), format!("a probe has one `{name}`")))
}

/// The headers that answer a question, the principal's or a stranger's.
pub(super) async fn answer(
    app: &App,
    question: ProofQuestion,
    principal: Option<&Principal>,
    decision: &FailoverDecision,
) -> HeaderMap {
    let proof = ProofClaims::new(question, principal, decision, clock::now());
    let lease = principal.and_then(|principal| LeaseClaims::beside(&proof, principal, decision));
    app.signing.catch_up(app.replica.signing_key()).await;
    let mut headers = HeaderMap::new();
    // No cache may keep an answer to one nonce.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Without a proof an agent with a pinned key denies, so a failure is only logged.
    let mut add = |name, signed: Result<String, _>| match signed.map(HeaderValue::try_from) {
        Ok(Ok(value)) => drop(headers.insert(name, value)),
        Ok(Err(_)) => tracing::error!(%name, "a token is not a valid header value"),
        Err(error) => tracing::error!(%name, %error, "a probe could not be answered with a signature"),
    };
    add(ACCESS_PROOF, app.signing.sign(&proof));
    if let Some(lease) = lease {
        add(ACCESS_LEASE, app.signing.sign(&lease));
    }
    headers
}

/// Adds a signed denial to the answer to a probe whose caller is not authenticated.
pub(super) async fn deny_stranger(app: &App, parts: &mut Parts, response: &mut Response) {
    let is_probe = parts.method == Method::HEAD
        && parts.headers.contains_key(PROBE_NONCE)
        && parts.extensions.get::<MatchedPath>().is_some_and(|route| route.as_str() == ROUTE);
    if !is_probe {
        return;
    }
    let path = AxumPath::<(String, String)>::from_request_parts(parts, &()).await;
    let Ok(AxumPath((kind, asked))) = path else { return };
    if kind != Kind::Llm.plural() {
        return;
    }
    // A malformed question gets no proof; the caller is refused in any case.
    if let Ok(Some(question)) = question(&parts.headers, &asked) {
        let revision = app.replica.latest().revision();
        let decision = FailoverDecision::unauthenticated(revision);
        response.headers_mut().extend(answer(app, question, None, &decision).await);
    }
}

/// The route of resources, as the router names it.
const ROUTE: &str = "/api/v1/{kind}/{idOrName}";

/// The id of the Llm that a response shows.
pub(super) fn llm_id(response: &mut Response, id: &Id) {
    if let Ok(value) = HeaderValue::from_str(id.as_str()) {
        response.headers_mut().insert(LLM_ID, value);
    }
}
