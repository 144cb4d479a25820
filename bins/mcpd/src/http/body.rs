//! The layer that reads request bodies. It runs after authentication, so that no byte of an unauthenticated request's body
//! is read.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytesize::ByteSize;
use mcpctl_api::ErrorKind;
use mcpctl_failover::FailureClass;
use mcpctl_server::{BodyError, BodyOwner, Peer};

use super::{caller::Caller, error::HttpError};
use crate::app::App;

const LOGIN: &str = "/api/v1/auth/login";
/// A login has a name and a password.
const MAX_LOGIN_BODY: ByteSize = ByteSize::kib(8);
/// `can-i` has a question.
const MAX_QUESTION_BODY: ByteSize = ByteSize::kib(64);
/// Documents.
const MAX_RESOURCE_BODY: ByteSize = ByteSize::mib(4);
/// Prompts may contain images.
const MAX_INFERENCE_BODY: ByteSize = ByteSize::mib(32);

fn max_body(route: &str) -> ByteSize {
    match route {
        LOGIN => MAX_LOGIN_BODY,
        "/api/v1/auth/logout" | "/api/v1/auth/can-i" => MAX_QUESTION_BODY,
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" => MAX_INFERENCE_BODY,
        "/api/v1/{kind}/{idOrName}/infer" => MAX_INFERENCE_BODY,
        _ => MAX_RESOURCE_BODY,
    }
}

/// Reads the body within the limits of its route.
pub async fn read(
    State(app): State<Arc<App>>,
    route: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let takes_body = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let Some(route) = route.filter(|_| takes_body) else { return next.run(request).await };
    let caller = request.extensions().get::<Caller>().map(|caller| caller.principal.subject.to_string());
    let owner = match &caller {
        Some(name) => BodyOwner::Caller(name),
        // Of the public routes, only the login has a body.
        None if route.as_str() != LOGIN => return next.run(request).await,
        None => BodyOwner::Stranger(request.extensions().get::<Peer>().and_then(|peer| peer.ip())),
    };
    match app.bodies.read(request, max_body(route.as_str()), owner).await {
        Ok(request) => next.run(request).await,
        Err(error) => HttpError::from(error).into_response(),
    }
}

impl From<BodyError> for HttpError {
    fn from(error: BodyError) -> Self {
        let (message, hint, accept) = (error.to_string(), error.hint(), error.accept_encoding());
        let invalid = |status, code| Self::new(status, ErrorKind::InvalidRequestError, code, message.clone());
        match error {
            BodyError::TooLarge { .. } => {
                invalid(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large").class(FailureClass::Rejected)
            }
            BodyError::TooSlow => {
                invalid(StatusCode::REQUEST_TIMEOUT, "body_too_slow").class(FailureClass::Rejected)
            }
            BodyError::Broken(_) | BodyError::Undecodable { .. } => {
                invalid(StatusCode::BAD_REQUEST, "body_unreadable").class(FailureClass::Rejected)
            }
            BodyError::Encoding { .. } => invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_encoding")
                .class(FailureClass::Rejected)
                .hint(hint.unwrap_or_default())
                .accept_encoding(accept.unwrap_or_default()),
            BodyError::CallerBusy { retry_after } => {
                let status = StatusCode::TOO_MANY_REQUESTS;
                Self::new(status, ErrorKind::RateLimitError, "bodies_in_flight", message)
                    .class(FailureClass::Quota)
                    .retry_after(retry_after)
            }
            BodyError::Busy { retry_after } => Self::unavailable(&message).retry_after(retry_after),
        }
    }
}
