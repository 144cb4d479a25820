//! What a streaming caller hears while a local provider takes its time, to start or to begin: comments, so that its client
//! does not give up. They are no part of any answer; the answer, or an honest error, follows in the same stream.

use std::{pin::Pin, time::Duration};

use axum::{
    body::{Body, BodyDataStream, Bytes, to_bytes},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use mcpctl_api::header::{NO_FAILOVER, SERVED_BY};
use mcpctl_dialect::openai::error::error_event;
use mcpctl_engine::EngineStatus;
use mcpctl_failover::FailureClass;
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Interval, interval},
};

use super::answer;
use crate::http::error::LocalHttpError;

/// How long it may take before the first comment, and between two: clients give up after 10 s at the earliest.
const COMMENT_INTERVAL: Duration = Duration::from_secs(5);
/// Of an error that becomes an event, bytes that are read.
const MAX_ERROR: usize = 1 << 20;

/// A local provider that a request waits for.
#[derive(Clone)]
pub(super) struct ColdStart {
    pub(super) provider: String,
    /// Why the primary did not answer; nothing where it may yet be asked.
    pub(super) failed: Option<FailureClass>,
    /// Of its engine, where the agent starts it.
    pub(super) progress: Option<watch::Receiver<EngineStatus>>,
}

type Answered = Result<Response, LocalHttpError>;
type Work = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// Answers as `work` does, and with a stream that begins with comments where a start takes long.
///
/// # Errors
/// As `work`, as long as no comment was sent.
pub(super) async fn with_comments(
    work: impl Future<Output = Answered> + Send + 'static,
    cold: watch::Receiver<Option<ColdStart>>,
) -> Answered {
    let mut work: Work = Box::pin(mcpctl_server::in_request_scope(work));
    let cold = tokio::select! {
        biased;
        answered = &mut work => return answered,
        cold = for_long(cold) => cold,
    };
    let failed = cold.failed;
    let provider = cold.provider.clone();
    let state = State::Waiting { work, every: interval(COMMENT_INTERVAL), cold };
    let mut response = Body::from_stream(stream::unfold(state, next)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(match failed {
        // Whatever comes now, this provider is the one that it comes of.
        Some(class) => answer::stood_in(answer::served_by(response, &provider), class, true),
        None => response,
    })
}

async fn for_long(mut cold: watch::Receiver<Option<ColdStart>>) -> ColdStart {
    loop {
        match cold.wait_for(Option::is_some).await.map(|cold| cold.clone()) {
            Ok(Some(cold)) => {
                tokio::time::sleep(COMMENT_INTERVAL).await;
                return cold;
            }
            Ok(None) => {}
            Err(_) => std::future::pending().await,
        }
    }
}

enum State {
    Waiting { work: Work, every: Interval, cold: ColdStart },
    Answering(BodyDataStream),
    Ended,
}

async fn next(state: State) -> Option<(Result<Bytes, axum::Error>, State)> {
    match state {
        State::Waiting { mut work, mut every, cold } => tokio::select! {
            biased;
            answered = &mut work => {
                let (bytes, state) = begin(answered).await;
                Some((Ok(bytes), state))
            }
            _ = every.tick() => {
                let comment = comment(&cold);
                Some((Ok(comment), State::Waiting { work, every, cold }))
            }
        },
        State::Answering(mut body) => body.next().await.map(|bytes| (bytes, State::Answering(body))),
        State::Ended => None,
    }
}

fn comment(cold: &ColdStart) -> Bytes {
    let status = cold.progress.as_ref().map(|progress| progress.borrow().clone());
    let what = match status.and_then(|status| Some((status.phase?, status.percent))) {
        Some((phase, Some(percent))) => format!("is starting ({}, {percent} %)", phase.as_str()),
        Some((phase, None)) => format!("is starting ({})", phase.as_str()),
        // Others are first, or it reads the prompt.
        None => "has not begun to answer".to_owned(),
    };
    Bytes::from(format!(": `{}` {what}\n\n", cold.provider))
}

async fn begin(answered: Answered) -> (Bytes, State) {
    let response = answered.unwrap_or_else(LocalHttpError::into_response);
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let streams = kind.is_some_and(|kind| kind.starts_with("text/event-stream"));
    if response.status().is_success() && streams {
        let who = response.headers().get(&SERVED_BY).and_then(|name| name.to_str().ok()).unwrap_or_default();
        let comment = Bytes::from(format!(": {SERVED_BY}: {who}\n\n"));
        return (comment, State::Answering(response.into_body().into_data_stream()));
    }
    // INVARIANT 13: an error event, and nothing that looks like an end.
    let success = response.status().is_success();
    // What would be a header, if there still were any.
    let why = response.headers().get(&NO_FAILOVER).and_then(|why| why.to_str().ok());
    let why = why.map(|why| format!(": {NO_FAILOVER}: {why}\n\n")).unwrap_or_default();
    let body = to_bytes(response.into_body(), MAX_ERROR).await.unwrap_or_default();
    let error =
        serde_json::from_slice::<Value>(&body).ok().filter(|body| !success && body.get("error").is_some());
    let event = match error {
        Some(error) => Bytes::from(format!("{why}data: {error}\n\n")),
        None if success => {
            error_event("the model did not stream its answer", "upstream_error", "server_error")
        }
        None => error_event("nobody could answer", "upstream_error", "server_error"),
    };
    (event, State::Ended)
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use mcpctl_api::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn an_error_after_comments_is_an_event_and_no_end() {
        let error = LocalHttpError::new(StatusCode::BAD_GATEWAY, ErrorKind::UpstreamError, "connect", "gone");
        let (bytes, state) = begin(Err(error)).await;
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.starts_with("data: {\"error\":") && text.ends_with("\n\n"), "{text}");
        assert!(!text.contains("[DONE]") && matches!(state, State::Ended));

        let page = (StatusCode::BAD_GATEWAY, "<html>bad gateway</html>").into_response();
        let (bytes, _) = begin(Ok(page)).await;
        assert!(bytes.starts_with(b"data: {\"error\":"), "{bytes:?}");

        // One that does not stream cannot be told as a stream.
        let (bytes, state) = begin(Ok(axum::Json(serde_json::json!({"choices": []})).into_response())).await;
        assert!(bytes.starts_with(b"data: {\"error\":") && matches!(state, State::Ended), "{bytes:?}");
    }
}
