//! The body of a response, as a part of its request.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};

use crate::request_log::RequestLog;

/// A body that is polled and dropped in its request's scope, so that lines that are logged meanwhile carry its id. Writes the
/// request's own line at its end, and holds `in_flight` until then.
pub(crate) struct TracedBody<G> {
    /// Taken when it is dropped.
    body: Option<Body>,
    log: RequestLog,
    _in_flight: G,
}

impl<G> TracedBody<G> {
    pub(crate) fn new(body: Body, log: RequestLog, in_flight: G) -> Self {
        Self { body: Some(body), log, _in_flight: in_flight }
    }
}

impl<G> Drop for TracedBody<G> {
    fn drop(&mut self) {
        let body = self.body.take();
        // Before the line is written, because what the body accounts for is part of it.
        self.log.scope.within(&self.log.span, || drop(body));
    }
}

impl<G: Unpin> hyper::body::Body for TracedBody<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body: Some(body), log, .. } = &mut *self else { return Poll::Ready(None) };
        let polled = log.scope.within(&log.span, || Pin::new(&mut *body).poll_frame(context));
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                log.sent(frame.data_ref().map_or(0, Bytes::len));
                if hyper::body::Body::is_end_stream(body) {
                    log.complete();
                }
            }
            Poll::Ready(None) => log.complete(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, hyper::body::Body::size_hint)
    }
}
