//! Keep-alive comments: the other rendering of an outcome. A streaming caller who waits for a local provider, to start or to
//! answer, receives comments so that its client does not give up. They are no part of the answer; the answer, or an error
//! event, follows in the same stream.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse as _, Response},
};
use futures::{StreamExt as _, stream};
use mcpctl_api::header::{NO_FAILOVER, SERVED_BY};
use mcpctl_dialect::openai::error::error_event;
use mcpctl_relay::body::StreamBody;
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
    let state = CommentStream::Waiting { work, ticks: interval(COMMENT_INTERVAL), wait };
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
        work: Work,
        ticks: Interval,
        wait: LocalWait,
    },
    Answering(Box<StreamBody>),
    /// The whole answer, where the server sent its events at once.
    Whole(Bytes),
    Ended,
}

async fn next(state: CommentStream) -> Option<(Result<Bytes, Infallible>, CommentStream)> {
    match state {
        CommentStream::Waiting { mut work, mut ticks, wait } => tokio::select! {
            biased;
            outcome = &mut work => {
                let (bytes, state) = begin(render(outcome));
                Some((Ok(bytes), state))
            }
            _ = ticks.tick() => {
                let comment = comment(&wait);
                Some((Ok(comment), CommentStream::Waiting { work, ticks, wait }))
            }
        },
        CommentStream::Answering(mut body) => {
            body.next().await.map(|bytes| (bytes, CommentStream::Answering(body)))
        }
        CommentStream::Whole(bytes) => Some((Ok(bytes), CommentStream::Ended)),
        CommentStream::Ended => None,
    }
}

fn comment(wait: &LocalWait) -> Bytes {
    let status = wait.progress.as_ref().map(|progress| progress.borrow().clone());
    let what = match status.and_then(|status| Some((status.phase?, status.percent))) {
        Some((phase, Some(percent))) => format!("is starting ({}, {percent} %)", phase.as_str()),
        Some((phase, None)) => format!("is starting ({})", phase.as_str()),
        // It has a queue, or reads the prompt.
        None => "has not begun to answer".to_owned(),
    };
    Bytes::from(format!(": `{}` {what}\n\n", wait.provider))
}

/// The first bytes after the comments, and what follows them.
fn begin(content: Content) -> (Bytes, CommentStream) {
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
        Some(error) => Bytes::from(format!("{reason}data: {error}\n\n")),
        None if status.is_success() => {
            error_event("the model did not stream its answer", "upstream_error", "server_error")
        }
        None => error_event("no model could answer", "upstream_error", "server_error"),
    };
    (event, CommentStream::Ended)
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
        let (bytes, state) = begin(error.into_content());
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.starts_with("data: {\"error\":") && text.ends_with("\n\n"), "{text}");
        assert!(!text.contains("[DONE]") && matches!(state, CommentStream::Ended));

        let (bytes, _) = begin(whole(StatusCode::BAD_GATEWAY, "<html>bad gateway</html>"));
        assert!(bytes.starts_with(b"data: {\"error\":"), "{bytes:?}");

        // An answer that is no stream cannot become one.
        let (bytes, state) = begin(whole(StatusCode::OK, r#"{"choices": []}"#));
        assert!(bytes.starts_with(b"data: {\"error\":"), "{bytes:?}");
        assert!(matches!(state, CommentStream::Ended));
    }
}
