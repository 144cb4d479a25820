//! What a caller learns where a provider gave neither an answer nor an error of its own: which limit passed, where the
//! provider redirects to, or why it cannot be reached.

use axum::http::StatusCode;
use mcpctl_api::{ErrorKind, Name};
use mcpctl_failover::FailureClass;
use mcpctl_upstream::Failure;

use crate::http::error::HttpError;

/// Whether a status may go to a caller: an answer or an error. Clients follow redirects, with the prompt.
pub(super) fn is_answer(status: StatusCode) -> bool {
    status.is_success() || status.is_client_error() || status.is_server_error()
}

/// The error. Host and reason are for those who may edit the Llm: they tell what runs where behind it.
pub(super) fn error(failure: &Failure, llm: &Name, may_edit: bool) -> HttpError {
    let own = |status, code: &str, message: String| {
        HttpError::new(status, ErrorKind::UpstreamError, code, message).class(failure.class)
    };
    if let Some(status) = failure.status.filter(|status| !is_answer(*status)) {
        let Some(place) = &failure.redirect else {
            let message =
                format!("the provider answered with status {}, which is no answer", status.as_u16());
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
            let message = format!("the provider cannot be reached{reason}");
            own(StatusCode::BAD_GATEWAY, failure.class.as_str(), message)
        }
    }
}
