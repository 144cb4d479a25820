//! What the caller gets: the centre's answer or error as it came, or a local provider's, said to be one.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header::RETRY_AFTER},
    response::{IntoResponse as _, Response},
};
use jiff::Timestamp;
use mcpctl_api::{
    ErrorKind, HumanDuration,
    header::{ATTEMPTS, ERROR_SOURCE, FAILOVER, FAILURE, NO_FAILOVER, SERVED_BY},
};
use mcpctl_engine::EngineGuard;
use mcpctl_failover::{FailureClass, LocalCause, LocalError};
use mcpctl_relay::{StreamEnd, StreamOutcome, body::StreamBody};
use mcpctl_upstream::{Answer, Failure};

use super::{
    Reply,
    passed::{is_answer, passed},
};
use crate::{app::App, http::error::LocalHttpError, journal::JournalEntry, prewarm::PrewarmTrigger};

/// What the centre answered, as it came. A stream that breaks is trouble too: it cannot fail over any more.
pub(super) fn forwarded(reply: Reply, trouble: Option<PrewarmTrigger>) -> Response {
    match reply.answer {
        Answer::Whole(whole) => {
            with_headers((whole.status, whole.body).into_response(), &passed(&whole.headers))
        }
        Answer::Stream(stream) => {
            let (status, headers) = (stream.status, passed(&stream.headers));
            let body = StreamBody::new(stream, false, move |ending| {
                if let (StreamOutcome::Broken(_), Some(trouble)) = (ending.outcome, trouble) {
                    trouble.shown("its stream broke");
                }
            });
            with_headers((status, Body::from_stream(body)).into_response(), &headers)
        }
    }
}

/// Says that a local provider stood in, and why.
pub(super) fn stood_in(mut response: Response, why: FailureClass, primary_called: bool) -> Response {
    let headers = response.headers_mut();
    headers.insert(FAILOVER, HeaderValue::from_static(why.as_str()));
    headers.insert(ATTEMPTS, HeaderValue::from(u32::from(primary_called) + 1));
    response
}

/// Says who answers.
pub(super) fn served_by(mut response: Response, provider: &str) -> Response {
    if let Ok(name) = HeaderValue::from_str(provider) {
        response.headers_mut().insert(SERVED_BY, name);
    }
    response
}

/// What a local provider answered; the guard goes with the last byte.
pub(super) fn served_locally(app: &Arc<App>, reply: Reply, provider: &str, hide_usage: bool) -> Response {
    let Reply { answer, guard, measured } = reply;
    let request = mcpctl_server::request_id();
    let app = Arc::clone(app);
    let measured = measured.map(Arc::new);
    let written = measured.clone();
    let ended = move |ending: StreamEnd| {
        match ending.outcome {
            StreamOutcome::Broken(_) => guard.into_iter().for_each(EngineGuard::release_suspect),
            StreamOutcome::Completed | StreamOutcome::Cancelled => drop(guard),
        }
        let usage = ending.usage.unwrap_or_default();
        if let (StreamOutcome::Completed, Some(measured)) = (ending.outcome, &measured) {
            measured.ended(usage.output_tokens);
        }
        let outcome = match ending.outcome {
            StreamOutcome::Completed => "ok",
            StreamOutcome::Broken(class) => class.as_str(),
            StreamOutcome::Cancelled => FailureClass::Cancelled.as_str(),
        };
        // That it ran is on record; where its end cannot be, the log says so.
        let _ = app.record(JournalEntry::Ended {
            at: Timestamp::now(),
            request,
            outcome,
            model: ending.model,
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
        });
    };
    let response = match answer {
        Answer::Whole(whole) => {
            ended(StreamEnd { outcome: StreamOutcome::Completed, usage: whole.usage, model: whole.model });
            content((whole.status, whole.body).into_response(), &whole.headers)
        }
        Answer::Stream(stream) => {
            let (status, headers) = (stream.status, stream.headers.clone());
            let mut body = StreamBody::new(stream, hide_usage, ended);
            if let Some(written) = written {
                body = body.on_content(move || written.piece());
            }
            content((status, Body::from_stream(body)).into_response(), &headers)
        }
    };
    served_by(response, provider)
}

/// INVARIANT 3: the primary's own error: status, body and those headers that may pass, as they came. Where nothing came,
/// or what mcpd never sends, words of ours. A caller who was allowed learns from a header why nobody stood in.
pub(super) fn primary_error(failure: &Failure, local: Option<&LocalError>) -> Response {
    let mut response = match failure.status.filter(|status| !status.is_success()) {
        Some(status) if is_answer(status) => {
            with_headers((status, failure.body.clone()).into_response(), &passed(&failure.headers))
        }
        Some(status) => not_mcpd(status, failure),
        None => no_answer(failure),
    };
    if let Some(error) = local
        && let Ok(reason) = HeaderValue::from_str(&reason(error))
    {
        response.headers_mut().insert(NO_FAILOVER, reason);
    }
    response
}

fn no_answer(failure: &Failure) -> Response {
    let class = failure.class;
    let (status, message) = match class {
        FailureClass::NoResponse | FailureClass::NoFirstToken => {
            let passed = failure.timeout.as_ref().map(|timeout| {
                let (key, time) = (timeout.kind.key(), HumanDuration(timeout.duration));
                format!(": `primary.timeouts.{key}` ({time}) in mcplocal.yaml")
            });
            let message = format!("mcpd did not answer in time{}", passed.unwrap_or_default());
            (StatusCode::GATEWAY_TIMEOUT, message)
        }
        FailureClass::Connect => {
            // The address is in this user's own configuration.
            (StatusCode::BAD_GATEWAY, format!("mcpd cannot be reached: {}", failure.detail()))
        }
        _ => (StatusCode::BAD_GATEWAY, "mcpd's answer broke off".to_owned()),
    };
    let error = LocalHttpError::new(status, ErrorKind::UpstreamError, class.as_str(), message);
    let mut response = error.into_response();
    response.headers_mut().insert(FAILURE, HeaderValue::from_static(class.as_str()));
    response.headers_mut().insert(ERROR_SOURCE, HeaderValue::from_static("mcplocal"));
    response
}

/// A redirect, or a status of no meaning here: clients of OpenAI's follow redirects, with the prompt.
fn not_mcpd(status: StatusCode, failure: &Failure) -> Response {
    let class = failure.class;
    let message =
        format!("what answers at mcpd's address is not mcpd: it answers with status {}", status.as_u16());
    // Where it redirects to is in the log alone: what answers there may be anything.
    let hint = "check `server` and `inference` in mcplocal.yaml; a portal or a proxy may answer there";
    let error = LocalHttpError::new(StatusCode::BAD_GATEWAY, ErrorKind::UpstreamError, "not_mcpd", message)
        .hint(hint);
    let mut response = error.into_response();
    response.headers_mut().insert(FAILURE, HeaderValue::from_static(class.as_str()));
    response
}

fn reason(error: &LocalError) -> String {
    match error.cause {
        LocalCause::Failed => "local_failed".to_owned(),
        LocalCause::Unavailable => "local_unavailable".to_owned(),
        LocalCause::NotRecorded => "no_journal".to_owned(),
        LocalCause::Busy { .. } => "busy".to_owned(),
        LocalCause::Lacks(word) => format!("lacks_{word}"),
    }
}

/// 429 with the time after which there may be room. Only for callers who may use the provider.
pub(super) fn busy(provider: &str, retry_after: Duration) -> Response {
    let error = LocalHttpError::new(
        StatusCode::TOO_MANY_REQUESTS,
        ErrorKind::RateLimitError,
        "local_busy",
        format!("the local provider `{provider}` has no room: its queue is full"),
    );
    let mut response = error.hint("try again, or raise its `concurrency` or `queue`").into_response();
    // Whole seconds, and never so few that it would be too early.
    let seconds = retry_after.as_secs_f64().ceil().max(1.0);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds as u32));
    response.headers_mut().insert(NO_FAILOVER, HeaderValue::from_static("busy"));
    response
}

/// Why one's own provider did not answer.
pub(super) fn own_error(provider: &str, error: &LocalError) -> Response {
    match error.cause {
        LocalCause::Busy { retry_after } => busy(provider, retry_after),
        LocalCause::Lacks(word) => LocalHttpError::new(
            StatusCode::BAD_REQUEST,
            ErrorKind::InvalidRequestError,
            &format!("lacks_{word}"),
            format!("the model of the local provider `{provider}` lacks what the request needs: {word}"),
        )
        .hint("where it does not, say so in `capabilities` or the context's length of the provider")
        .into_response(),
        LocalCause::NotRecorded => LocalHttpError::no_journal().into_response(),
        LocalCause::Unavailable => LocalHttpError::new(
            StatusCode::BAD_GATEWAY,
            ErrorKind::UpstreamError,
            "local_provider_unavailable",
            format!("the local provider `{provider}` is unavailable: {error}"),
        )
        .hint("`mcpctl local doctor` shows what is missing; no restart is needed once it is there")
        .into_response(),
        LocalCause::Failed => LocalHttpError::new(
            StatusCode::BAD_GATEWAY,
            ErrorKind::UpstreamError,
            "local_provider_failed",
            format!("the local provider `{provider}` did not answer: {error}"),
        )
        .hint(format!("mcpctl local logs {provider}"))
        .into_response(),
    }
}

/// What one's own provider says against a request, in its own words.
pub(super) fn own_refusal(provider: &str, failure: &Failure) -> Option<Response> {
    let status = failure.status.filter(StatusCode::is_client_error)?;
    let response = content((status, failure.body.clone()).into_response(), &failure.headers);
    Some(served_by(response, provider))
}

fn with_headers(mut response: Response, headers: &HeaderMap) -> Response {
    // What the framework guessed gives way to what was sent.
    for name in headers.keys() {
        response.headers_mut().remove(name);
    }
    for (name, value) in headers {
        response.headers_mut().append(name.clone(), value.clone());
    }
    response
}

/// Of a local server's headers, those that describe the body.
fn content(mut response: Response, headers: &HeaderMap) -> Response {
    for name in ["content-type", "cache-control"] {
        if let Some(value) = headers.get(name) {
            response.headers_mut().insert(axum::http::HeaderName::from_static(name), value.clone());
        }
    }
    response
}
