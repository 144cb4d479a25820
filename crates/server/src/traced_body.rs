//! The body of a response, as a part of its request.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tracing::Span;

use crate::request_scope::within_request;

/// A body that is polled and dropped with its request's id and span, so that lines that are logged meanwhile carry both.
/// Holds `in_flight` until its end.
pub(crate) struct TracedBody<G> {
    /// Taken when it is dropped.
    body: Option<Body>,
    id: Arc<str>,
    span: Span,
    _in_flight: G,
}

impl<G> TracedBody<G> {
    pub(crate) fn new(body: Body, id: Arc<str>, span: Span, in_flight: G) -> Self {
        Self { body: Some(body), id, span, _in_flight: in_flight }
    }
}

impl<G> Drop for TracedBody<G> {
    fn drop(&mut self) {
        let body = self.body.take();
        within_request(&self.id, &self.span, || drop(body));
    }
}

impl<G: Unpin> hyper::body::Body for TracedBody<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, id, span, .. } = &mut *self;
        let Some(body) = body else { return Poll::Ready(None) };
        within_request(id, span, || Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, hyper::body::Body::size_hint)
    }
}
