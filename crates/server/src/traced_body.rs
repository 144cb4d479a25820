//! The body of a response, as a part of its request.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tracing::Span;

use crate::request_scope::RequestScope;

/// A body that is polled and dropped as a part of its request, so that lines that are logged meanwhile carry its id and span.
/// Holds `in_flight` until its end.
pub(crate) struct TracedBody<G> {
    /// Taken when it is dropped.
    body: Option<Body>,
    scope: RequestScope,
    span: Span,
    _in_flight: G,
}

impl<G> TracedBody<G> {
    pub(crate) fn new(body: Body, scope: RequestScope, span: Span, in_flight: G) -> Self {
        Self { body: Some(body), scope, span, _in_flight: in_flight }
    }
}

impl<G> Drop for TracedBody<G> {
    fn drop(&mut self) {
        let body = self.body.take();
        self.scope.within(&self.span, || drop(body));
    }
}

impl<G: Unpin> hyper::body::Body for TracedBody<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, scope, span, .. } = &mut *self;
        let Some(body) = body else { return Poll::Ready(None) };
        scope.within(span, || Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(hyper::body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, hyper::body::Body::size_hint)
    }
}
