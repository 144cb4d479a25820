//! Reads request bodies, after authentication, so that no byte of an unauthenticated request's body is read.

use axum::{
    extract::{DefaultBodyLimit, MatchedPath, Request},
    http::Method,
};
use bytesize::ByteSize;
use mcpctl_server::{BodyOwner, Peer};

use super::error::HttpError;
use crate::{app::App, caller::Caller};

/// The public routes that have a body.
const SIGN_IN: [&str; 6] = [
    "/console/sign-in",
    "/api/v1/auth/token-exchange",
    "/api/v1/auth/login",
    "/api/v1/auth/oidc/code",
    "/api/v1/auth/oidc/device",
    "/api/v1/auth/oidc/device/poll",
];
/// A login has a name and a password, a code, or a workload's token.
const MAX_LOGIN_BODY: ByteSize = ByteSize::kib(8);
/// `can-i` has a question.
const MAX_QUESTION_BODY: ByteSize = ByteSize::kib(64);
/// Lines of an agent's journal.
const MAX_JOURNAL_BODY: ByteSize = ByteSize::mib(2);
/// Documents.
const MAX_RESOURCE_BODY: ByteSize = ByteSize::mib(4);
/// Forms of the console: a secret's value, as forms encode it.
const MAX_FORM_BODY: ByteSize = ByteSize::kib(256);
/// The playground's form: as many characters as its page takes, each of up to nine bytes as forms encode them.
const MAX_PROMPT_BODY: ByteSize = ByteSize::kib(768);
/// Prompts may contain images.
const MAX_INFERENCE_BODY: ByteSize = ByteSize::mib(32);

fn max_body(route: &str) -> ByteSize {
    match route {
        route if SIGN_IN.contains(&route) => MAX_LOGIN_BODY,
        "/api/v1/auth/password" => MAX_LOGIN_BODY,
        "/api/v1/auth/logout"
        | "/api/v1/auth/can-i"
        | "/api/v1/admin/rotate-keys"
        | "/api/v1/admin/lift-throttle" => MAX_QUESTION_BODY,
        "/api/v1/agents/{agent}/journal" => MAX_JOURNAL_BODY,
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" | "/v1/responses" => MAX_INFERENCE_BODY,
        "/console/playground/infer" => MAX_PROMPT_BODY,
        route if route.starts_with("/console/") => MAX_FORM_BODY,
        "/v1/messages" | "/v1/messages/count_tokens" => MAX_INFERENCE_BODY,
        "/api/v1/{kind}/{idOrName}/infer" => MAX_INFERENCE_BODY,
        _ => MAX_RESOURCE_BODY,
    }
}

/// Reads the body within the limits of its route.
pub async fn read(app: &App, mut request: Request) -> Result<Request, HttpError> {
    // The limits of a route are the ones below.
    DefaultBodyLimit::disable().apply(&mut request);
    let takes_body = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let route = request.extensions().get::<MatchedPath>().filter(|_| takes_body).cloned();
    let Some(route) = route else { return Ok(request) };
    let caller = request.extensions().get::<Caller>().map(|caller| caller.principal.subject.to_string());
    let owner = match &caller {
        Some(name) => BodyOwner::Caller(name),
        // Of the public routes, only those of the sign-in have a body.
        None if !SIGN_IN.contains(&route.as_str()) => return Ok(request),
        None => BodyOwner::Stranger(request.extensions().get::<Peer>().and_then(|peer| peer.ip())),
    };
    Ok(app.bodies.read(request, max_body(route.as_str()), owner).await?)
}
