//! The one place where an [`Outcome`] becomes a response: mcpd's answer or error as it came, a local provider's answer marked
//! as such, or an error of the agent's own.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use mcpctl_api::{
    ErrorKind, HumanDuration,
    header::{ATTEMPTS, ERROR_SOURCE, ESTIMATED, FAILOVER, FAILURE, NO_FAILOVER, NO_PROVIDER, SERVED_BY},
};
use mcpctl_failover::{Access, FailureClass, LocalCause, LocalError};
use mcpctl_upstream::Failure;

use super::{
    error::LocalHttpError,
    passed::{is_answer, passed},
};
use crate::pipeline::{Content, ContentBody, Fallback, NoFailover, Outcome};

/// Turns an outcome into the content of a response.
pub(super) fn render(outcome: Outcome) -> Content {
    match outcome {
        Outcome::Primary(mut content) => {
            content.headers = passed(&content.headers);
            content
        }
        Outcome::PrimaryFailed { failure, no_failover } => primary_error(failure, no_failover.as_ref()),
        Outcome::Local { provider, failover, content } => {
            let mut content = local(&provider, content);
            if let Some(fallback) = failover {
                mark_failover(&mut content.headers, fallback);
            }
            content
        }
        Outcome::LocalFailed { provider, error } => local_error(&provider, &error),
        Outcome::LocalRejected { provider, failure } => {
            let Failure { status, headers, body, .. } = failure;
            let status = status.unwrap_or(StatusCode::BAD_REQUEST);
            local(&provider, Content { status, headers: *headers, body: ContentBody::Whole(body) })
        }
        Outcome::Rejected(error) => LocalHttpError::from(error).into_content(),
    }
}

impl IntoResponse for Content {
    fn into_response(self) -> Response {
        let Self { status, headers, body } = self;
        let mut response = match body {
            ContentBody::Whole(bytes) => (status, bytes).into_response(),
            ContentBody::Stream(stream) => (status, Body::from_stream(stream)).into_response(),
        };
        // axum's guess of the content type is replaced.
        for name in headers.keys() {
            response.headers_mut().remove(name);
        }
        response.headers_mut().extend(headers);
        response
    }
}

/// Marks a response as a failover's, with its reason and the number of attempts.
pub(super) fn mark_failover(headers: &mut HeaderMap, fallback: Fallback) {
    headers.insert(FAILOVER, HeaderValue::from_static(fallback.class.as_str()));
    headers.insert(ATTEMPTS, HeaderValue::from(u32::from(fallback.primary_called) + 1));
}

/// Names the local provider that answers.
pub(super) fn mark_served_by(headers: &mut HeaderMap, provider: &str) {
    if let Ok(name) = HeaderValue::from_str(provider) {
        headers.insert(SERVED_BY, name);
    }
}

/// A local provider's answer: of its headers, only those that describe the body.
fn local(provider: &str, mut content: Content) -> Content {
    let mut headers = HeaderMap::new();
    for name in [header::CONTENT_TYPE, header::CACHE_CONTROL, ESTIMATED] {
        if let Some(value) = content.headers.remove(&name) {
            headers.insert(name, value);
        }
    }
    mark_served_by(&mut headers, provider);
    content.headers = headers;
    content
}

/// INVARIANT 3: the primary's own error: status, body and those headers that may pass, unchanged. Where mcpd did not respond, or
/// the response is none of mcpd's, an error of the agent's own. A header gives callers who may know it the reason why no local
/// provider answered.
fn primary_error(failure: Failure, no_failover: Option<&NoFailover>) -> Content {
    let mut content = match failure.status.filter(|status| !status.is_success()) {
        Some(status) if is_answer(status) => {
            let headers = passed(&failure.headers);
            Content { status, headers, body: ContentBody::Whole(failure.body) }
        }
        Some(status) => not_mcpd(status, &failure),
        None => no_answer(&failure),
    };
    let reason = no_failover.map(|why| match why {
        NoFailover::Local(error) => HeaderValue::from_str(&no_failover_reason(error)),
        NoFailover::Rule(rule) => Ok(HeaderValue::from_static(rule.as_str())),
        NoFailover::NoProvider => Ok(HeaderValue::from_static(NO_PROVIDER)),
        NoFailover::Unreachable => Ok(HeaderValue::from_static(Access::Unreachable.as_str())),
    });
    if let Some(Ok(reason)) = reason {
        content.headers.insert(NO_FAILOVER, reason);
    }
    content
}

fn no_answer(failure: &Failure) -> Content {
    let class = failure.class;
    let passed = failure.timeout.as_ref().map(|timeout| {
        let (key, time) = (timeout.kind.key(), HumanDuration(timeout.duration));
        format!(": `primary.timeouts.{key}` ({time}) in mcplocal.yaml")
    });
    let (status, message) = match class {
        FailureClass::NoResponse | FailureClass::NoFirstToken => {
            let message = match passed {
                Some(passed) => format!("mcpd did not answer in time{passed}"),
                None => format!("mcpd does not answer: {}", failure.detail()),
            };
            (StatusCode::GATEWAY_TIMEOUT, message)
        }
        FailureClass::Connect => {
            // The address is in this user's own configuration.
            let passed = passed.unwrap_or_default();
            (StatusCode::BAD_GATEWAY, format!("mcpd cannot be reached: {}{passed}", failure.detail()))
        }
        _ => (StatusCode::BAD_GATEWAY, "mcpd's answer broke off".to_owned()),
    };
    let error = LocalHttpError::new(status, ErrorKind::UpstreamError, class.as_str(), message);
    let mut content = error.into_content();
    content.headers.insert(FAILURE, HeaderValue::from_static(class.as_str()));
    content.headers.insert(ERROR_SOURCE, HeaderValue::from_static("mcplocal"));
    content
}

/// A redirect, or a status of no meaning here: clients of OpenAI's follow redirects, with the prompt.
fn not_mcpd(status: StatusCode, failure: &Failure) -> Content {
    let class = failure.class;
    let message =
        format!("what answers at mcpd's address is not mcpd: it answers with status {}", status.as_u16());
    // The redirect's address is only logged: any program may have sent it.
    let hint = "check `server` and `inference` in mcplocal.yaml; a portal or a proxy may answer there";
    let error = LocalHttpError::new(StatusCode::BAD_GATEWAY, ErrorKind::UpstreamError, "not_mcpd", message)
        .hint(hint);
    let mut content = error.into_content();
    content.headers.insert(FAILURE, HeaderValue::from_static(class.as_str()));
    content
}

fn no_failover_reason(error: &LocalError) -> String {
    match error.cause {
        LocalCause::Failed => "local_failed".to_owned(),
        LocalCause::Unavailable => "local_unavailable".to_owned(),
        LocalCause::NotRecorded => "no_journal".to_owned(),
        LocalCause::AccessEnded(code) => code.to_owned(),
        LocalCause::Busy { .. } => "busy".to_owned(),
        LocalCause::Lacks(word) => format!("lacks_{word}"),
    }
}

/// 429 with the time after which there may be room.
fn busy(provider: &str, retry_after: Duration) -> Content {
    let error = LocalHttpError::new(
        StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::RateLimitError,
        "local_busy",
        format!("the local provider `{provider}` has no room: its queue is full"),
    );
    let mut content = error.hint("try again, or raise its `concurrency` or `queue`").into_content();
    // Whole seconds, rounded up, so that the caller does not come too early.
    let seconds = retry_after.as_secs_f64().ceil().max(1.0);
    content.headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds as u32));
    content.headers.insert(NO_FAILOVER, HeaderValue::from_static("busy"));
    content
}

/// 403, of the class of mcpd's own denials, so that no client tries again.
fn access_ended(code: &str, error: &LocalError) -> Content {
    let (status, kind) = (StatusCode::FORBIDDEN, ErrorKind::PermissionError);
    let mut content = LocalHttpError::new(status, kind, code, error.to_string()).into_content();
    content.headers.insert(FAILURE, HeaderValue::from_static(FailureClass::Denied.as_str()));
    content
}

/// Why a local provider that the caller may use did not answer.
fn local_error(provider: &str, error: &LocalError) -> Content {
    match error.cause {
        LocalCause::Busy { retry_after } => return busy(provider, retry_after),
        LocalCause::Lacks(word) => LocalHttpError::new(
            StatusCode::BAD_REQUEST,
            ErrorKind::InvalidRequestError,
            &format!("lacks_{word}"),
            format!("the model of the local provider `{provider}` lacks what the request needs: {word}"),
        )
        .hint("where it does not, correct `capabilities` or the context's length of the provider"),
        LocalCause::NotRecorded => LocalHttpError::no_journal(),
        LocalCause::AccessEnded(code) => return access_ended(code, error),
        LocalCause::Unavailable => LocalHttpError::new(
            StatusCode::BAD_GATEWAY,
            ErrorKind::UpstreamError,
            "local_provider_unavailable",
            format!("the local provider `{provider}` is unavailable: {error}"),
        )
        .hint("`mcpctl local doctor` shows what is missing; no restart is needed once it is there"),
        LocalCause::Failed => LocalHttpError::new(
            StatusCode::BAD_GATEWAY,
            ErrorKind::UpstreamError,
            "local_provider_failed",
            format!("the local provider `{provider}` did not answer: {error}"),
        )
        .hint(format!("mcpctl local logs {provider}")),
    }
    .into_content()
}
