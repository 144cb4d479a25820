//! Renders a provider's failure: its own error if the caller may see it, else one of mcpd.

use axum::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use mcpctl_api::{
    ErrorKind, Name,
    header::{ERROR_SOURCE, FAILURE},
};
use mcpctl_dialect::error::{self, UpstreamError};
use mcpctl_failover::FailureClass;
use mcpctl_upstream::Failure;

use super::error::HttpError;

/// The response to a failed request: the provider's own error, if it has one that the caller may see.
pub(super) fn render(failure: &Failure, llm: &Name, may_edit: bool) -> Response {
    let class = failure.class;
    tracing::warn!(%llm, class = class.as_str(), error = %failure, "the provider failed");
    let own = |status, code: &str, message: &str| {
        HttpError::new(status, ErrorKind::UpstreamError, code, message).class(class).into_response()
    };
    let mut response = match (class, failure.status.filter(|status| !status.is_success())) {
        // The provider's message about mcpd's key is not for callers.
        (FailureClass::UpstreamCredentials, _) => own(
            StatusCode::BAD_GATEWAY,
            "upstream_credentials",
            "the provider refused the credential of this Llm",
        ),
        // Not the caller's mistake: it named an existing Llm, whose model is configured.
        (FailureClass::ModelUnavailable, _) => {
            let message = UpstreamError::read(&failure.body).message.unwrap_or_default();
            HttpError::new(
                StatusCode::BAD_GATEWAY,
                ErrorKind::UpstreamError,
                class.as_str(),
                format!("the provider does not have the model of this Llm: {message}"),
            )
            .hint("an account that may edit the Llm can change its `model`")
            .class(class)
            .into_response()
        }
        (_, Some(status)) if is_response(status) => {
            let mut response = (status, failure.body.clone()).into_response();
            copy_headers(&failure.headers, &mut response);
            response
        }
        (_, None) if let Some(response) = in_band(failure) => response,
        (_, Some(_) | None) => own_error(failure, llm, may_edit).into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(ERROR_SOURCE, HeaderValue::from_static("upstream"));
    headers.insert(FAILURE, HeaderValue::from_static(class.as_str()));
    response
}

/// An error that came with status 200, as the whole response or as the first event: the provider's message with the
/// status of its class.
fn in_band(failure: &Failure) -> Option<Response> {
    let UpstreamError { message, kind, code, .. } = UpstreamError::read(&failure.body);
    let named = || code.as_deref()?.parse().ok().filter(|code| (400..=499).contains(code));
    let status = match failure.class {
        FailureClass::Rejected | FailureClass::ContextLength => named().unwrap_or(400),
        FailureClass::RateLimited => 429,
        _ => 502,
    };
    let dialect = mcpctl_server::caller_dialect();
    let body = error::error_body(dialect, &message?, kind.as_deref(), code.as_deref(), Some(status));
    let json = [(header::CONTENT_TYPE, "application/json")];
    Some((StatusCode::from_u16(status).ok()?, json, body).into_response())
}

/// Headers of a provider's response that callers get; all others are removed.
const FORWARDED_HEADERS: [&str; 7] = [
    "content-type",
    "cache-control",
    "retry-after",
    "x-request-id",
    "openai-processing-ms",
    "openai-version",
    "mcpctl-estimated",
];

/// Copies the headers that callers get.
pub(super) fn copy_headers(from: &HeaderMap, response: &mut Response) {
    for (name, value) in from {
        if FORWARDED_HEADERS.contains(&name.as_str()) {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
}

/// Whether callers may get this status. Not a redirect: clients would follow it, with the prompt.
fn is_response(status: StatusCode) -> bool {
    status.is_success() || status.is_client_error() || status.is_server_error()
}

/// The error of mcpd. Only a caller that may edit the Llm gets host and reason: they show what runs where.
fn own_error(failure: &Failure, llm: &Name, may_edit: bool) -> HttpError {
    let own = |status, code: &str, message: String| {
        HttpError::new(status, ErrorKind::UpstreamError, code, message).class(failure.class)
    };
    if let Some(status) = failure.status.filter(|status| !is_response(*status)) {
        let Some(place) = &failure.redirect else {
            let message =
                format!("the provider answered with status {}, which is not an answer", status.as_u16());
            return own(StatusCode::BAD_GATEWAY, "no_answer", message)
                .hint(format!("check the `url` of the Llm `{llm}`: is it a model server?"));
        };
        let message = format!("the provider redirects to `{place}`, where requests are not sent");
        return own(StatusCode::BAD_GATEWAY, "redirected", message).hint(format!(
            "where that is the right address, an administrator can write it as the `url` of the Llm `{llm}`"
        ));
    }
    match (failure.class, &failure.timeout) {
        (FailureClass::NoResponse | FailureClass::NoFirstToken, Some(timeout)) => {
            let (key, time) = (timeout.kind.key(), mcpctl_api::HumanDuration(timeout.duration));
            let message =
                format!("the provider did not answer in time: `timeouts.{key}` ({time}) of the Llm `{llm}`");
            own(StatusCode::GATEWAY_TIMEOUT, failure.class.as_str(), message)
                .hint("a model that thinks for longer needs a longer limit there")
        }
        (FailureClass::NoResponse | FailureClass::NoFirstToken, None) => {
            let message = "the provider did not answer in time".to_owned();
            own(StatusCode::GATEWAY_TIMEOUT, failure.class.as_str(), message)
        }
        _ if failure.status.is_some() => {
            let message = format!("the provider's answer cannot be used: {}", failure.detail());
            own(StatusCode::BAD_GATEWAY, failure.class.as_str(), message)
        }
        _ => {
            let shown = may_edit && !failure.is_for_logs_alone();
            let reason = if shown { format!(": {}", failure.detail()) } else { String::new() };
            let bound = failure.timeout.as_ref().map(|timeout| {
                let (key, time) = (timeout.kind.key(), mcpctl_api::HumanDuration(timeout.duration));
                format!(" within `timeouts.{key}` ({time}) of the Llm `{llm}`")
            });
            let bound = bound.unwrap_or_default();
            let message = format!("the provider cannot be reached{bound}{reason}");
            own(StatusCode::BAD_GATEWAY, failure.class.as_str(), message)
        }
    }
}
