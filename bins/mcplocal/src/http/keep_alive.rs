//! Keep-alive comments: the other rendering of an outcome. A streaming caller who waits for a local provider, to start or to
//! answer, receives comments so that its client does not give up, and with each the `ping` that clients of Anthropic's API know. They
//! are no part of the answer; the answer, or an error event, follows in the same stream.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use mcpctl_api::header::{NO_FAILOVER, SERVED_BY};
use mcpctl_dialect::{Dialect, Operation, translate::error_event};
use mcpctl_relay::CuttableBody;
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Interval, interval},
};

use super::render::{mark_failover, mark_served_by, render};
use crate::pipeline::{Content, ContentBody, Fallback, LocalWait, Outcome};

/// Time before the first comment, and between two: clients give up after 10 s at the earliest.
const COMMENT_INTERVAL: Duration = Duration::from_secs(5);

type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Responds with the outcome of `work`. Where a local provider takes longer than the interval, the response is a stream that
/// begins with comments.
pub(super) async fn with_comments(
    operation: Operation,
    work: impl Future<Output = Outcome> + Send + 'static,
    wait: watch::Receiver<Option<LocalWait>>,
) -> Response {
    let mut work: Work = Box::pin(mcpctl_server::in_request_scope(work));
    let wait = tokio::select! {
        biased;
        outcome = &mut work => return render(outcome).into_response(),
        wait = long_wait(wait) => wait,
    };
    let (failed, provider) = (wait.failed, wait.provider.clone());
    let state = CommentStream::Waiting { operation, work, ticks: interval(COMMENT_INTERVAL), wait };
    let mut response = Body::from_stream(stream::unfold(state, next)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Once the primary has failed, whatever follows comes from this provider.
    if let Some(class) = failed {
        mark_served_by(headers, &provider);
        mark_failover(headers, Fallback { class, primary_called: true });
    }
    response
}

/// The wait for a local provider, once it has taken the interval; never where there is none.
async fn long_wait(mut wait: watch::Receiver<Option<LocalWait>>) -> LocalWait {
    loop {
        match wait.wait_for(Option::is_some).await.map(|wait| wait.clone()) {
            Ok(Some(wait)) => {
                tokio::time::sleep(COMMENT_INTERVAL).await;
                return wait;
            }
            Ok(None) => {}
            Err(_) => std::future::pending().await,
        }
    }
}

enum CommentStream {
    Waiting {
        operation: Operation,
        work: Work,
        ticks: Interval,
        wait: LocalWait,
    },
    Answering(CuttableBody),
    /// The whole answer, where the server sent its events at once.
    Whole(Bytes),
    Ended,
}

async fn next(state: CommentStream) -> Option<(Result<Bytes, Infallible>, CommentStream)> {
    match state {
        CommentStream::Waiting { operation, mut work, mut ticks, wait } => tokio::select! {
            biased;
            outcome = &mut work => {
                let (bytes, state) = begin(operation, render(outcome));
                Some((Ok(bytes), state))
            }
            _ = ticks.tick() => {
                let comment = comment(operation, &wait);
                Some((Ok(comment), CommentStream::Waiting { operation, work, ticks, wait }))
            }
        },
        CommentStream::Answering(mut body) => {
            body.next().await.map(|bytes| (bytes, CommentStream::Answering(body)))
        }
        CommentStream::Whole(bytes) => Some((Ok(bytes), CommentStream::Ended)),
        CommentStream::Ended => None,
    }
}

fn comment(operation: Operation, wait: &LocalWait) -> Bytes {
    let status = wait.progress.as_ref().map(|progress| progress.borrow().clone());
    let what = match status.and_then(|status| Some((status.phase?, status.percent))) {
        Some((phase, Some(percent))) => format!("is starting ({}, {percent} %)", phase.as_str()),
        Some((phase, None)) => format!("is starting ({})", phase.as_str()),
        // It has a queue, or reads the prompt.
        None => "has not begun to answer".to_owned(),
    };
    let ping = match operation.dialect() {
        Dialect::Openai => "",
        Dialect::Anthropic => "event: ping\ndata: {\"type\": \"ping\"}\n",
    };
    Bytes::from(format!(": `{}` {what}\n{ping}\n", wait.provider))
}

/// The first bytes after the comments, and what follows them.
fn begin(operation: Operation, content: Content) -> (Bytes, CommentStream) {
    let Content { status, headers, body } = content;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let streams = text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/event-stream"));
    if status.is_success() && streams {
        let comment = Bytes::from(format!(": {SERVED_BY}: {}\n\n", text(SERVED_BY).unwrap_or_default()));
        let rest = match body {
            ContentBody::Stream(stream) => CommentStream::Answering(stream),
            ContentBody::Whole(bytes) => CommentStream::Whole(bytes),
        };
        return (comment, rest);
    }
    // INVARIANT 13: an error event, and nothing that looks like the end of an answer. What would be a header is a comment,
    // because the headers are sent already.
    let reason = text(NO_FAILOVER).map(|reason| format!(": {NO_FAILOVER}: {reason}\n\n")).unwrap_or_default();
    let error = match &body {
        ContentBody::Whole(bytes) if !status.is_success() => serde_json::from_slice::<Value>(bytes).ok(),
        _ => None,
    };
    let event = match error.filter(|error| error.get("error").is_some()) {
        Some(error) => event_of(operation, &error),
        None if status.is_success() => {
            error_event(operation, "the model did not stream its answer", "upstream_error", "server_error")
        }
        None => error_event(operation, "no model could answer", "upstream_error", "server_error"),
    };
    ([reason.as_bytes(), &event].concat().into(), CommentStream::Ended)
}

/// The event for an error that is in the caller's shape already.
fn event_of(operation: Operation, error: &Value) -> Bytes {
    match operation {
        Operation::Messages | Operation::CountTokens => format!("event: error\ndata: {error}\n\n").into(),
        // A stream of responses has an event of another shape.
        Operation::Responses => {
            let text = |name: &str| error.pointer(name).and_then(Value::as_str).unwrap_or_default();
            error_event(operation, text("/error/message"), text("/error/type"), text("/error/code"))
        }
        Operation::Chat | Operation::Completions | Operation::Embeddings => {
            format!("data: {error}\n\n").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, StatusCode};
    use mcpctl_api::ErrorKind;

    use super::*;
    use crate::http::error::LocalHttpError;

    fn whole(status: StatusCode, body: &'static str) -> Content {
        let body = ContentBody::Whole(Bytes::from_static(body.as_bytes()));
        Content { status, headers: HeaderMap::new(), body }
    }

    #[test]
    fn error_after_comments_is_an_event_without_an_end() {
        let error = LocalHttpError::new(StatusCode::BAD_GATEWAY, ErrorKind::UpstreamError, "connect", "gone");
        let (bytes, state) = begin(Operation::Chat, error.into_content());
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.starts_with("data: {\"error\":") && text.ends_with("\n\n"), "{text}");
        assert!(!text.contains("[DONE]") && matches!(state, CommentStream::Ended));

        let (bytes, _) = begin(Operation::Chat, whole(StatusCode::BAD_GATEWAY, "<html>bad gateway</html>"));
        assert!(bytes.starts_with(b"data: {\"error\":"), "{bytes:?}");

        // An answer that is no stream cannot become one.
        let (bytes, state) = begin(Operation::Chat, whole(StatusCode::OK, r#"{"choices": []}"#));
        assert!(bytes.starts_with(b"data: {\"error\":"), "{bytes:?}");
        assert!(matches!(state, CommentStream::Ended));
    }

    #[test]
    fn each_dialect_has_its_own_error_event_and_ping() {
        let anthropic = r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#;
        let (bytes, _) = begin(Operation::Messages, whole(StatusCode::SERVICE_UNAVAILABLE, anthropic));
        let data = bytes.strip_prefix(b"event: error\ndata: ").unwrap();
        let [event, expected] =
            [data, anthropic.as_bytes()].map(|json| serde_json::from_slice::<Value>(json).unwrap());
        assert_eq!(event, expected);
        let (bytes, _) = begin(Operation::Messages, whole(StatusCode::BAD_GATEWAY, "<html>"));
        assert!(bytes.starts_with(b"event: error\ndata: {\"type\":\"error\""), "{bytes:?}");

        let wait = LocalWait { provider: "desk".to_owned(), failed: None, progress: None };
        let text = "`desk` has not begun to answer";
        assert_eq!(comment(Operation::Chat, &wait), format!(": {text}\n\n"));
        let ping = format!(": {text}\nevent: ping\ndata: {{\"type\": \"ping\"}}\n\n");
        assert_eq!(comment(Operation::Messages, &wait), ping);
    }
}
