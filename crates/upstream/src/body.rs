//! The body of a response, decompressed where the server compressed it unasked. It holds the connection, and puts it back at its
//! end; dropped before, it closes the connection, which cancels the request.

use std::{
    convert::Infallible,
    future::{self, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response, header::CONTENT_ENCODING};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1::SendRequest,
};
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_service::Service;

use crate::{connect_error::SendError, pool::Pool};

/// A connection of HTTP/1.1 that a response is read from, and where it goes afterwards.
type Held = (SendRequest<Full<Bytes>>, Arc<Pool>);

pub(crate) struct Body {
    source: Source,
    held: Option<Held>,
}

enum Source {
    Plain(Incoming),
    Compressed(Pin<Box<DecompressionBody<Incoming>>>),
}

impl Body {
    /// A response with this body, and without the headers about a compression that was undone.
    pub(crate) async fn of(response: Response<Incoming>, held: Option<Held>) -> Response<Self> {
        let response = if response.headers().contains_key(CONTENT_ENCODING) {
            let Ok(response) = Decompression::new(Received).call(Request::new(response)).await;
            response.map(|body| Source::Compressed(Box::pin(body)))
        } else {
            response.map(Source::Plain)
        };
        response.map(|source| {
            let mut body = Self { source, held };
            body.put_back_at_end();
            body
        })
    }

    /// The next bytes; `None` after the last.
    pub(crate) fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SendError>>> {
        loop {
            let next = match &mut self.source {
                Source::Plain(body) => {
                    ready!(Pin::new(body).poll_frame(context)).map(|frame| frame.map_err(SendError::Exchange))
                }
                Source::Compressed(body) => {
                    ready!(body.as_mut().poll_frame(context)).map(|frame| frame.map_err(SendError::Body))
                }
            };
            match next {
                Some(Ok(frame)) => {
                    self.put_back_at_end();
                    // Trailers are no part of an answer.
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Some(Ok(bytes)));
                    }
                }
                Some(Err(error)) => {
                    self.held = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.put_back();
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// As [`Body::poll_data`], as a future.
    pub(crate) async fn data(&mut self) -> Option<Result<Bytes, SendError>> {
        poll_fn(|context| self.poll_data(context)).await
    }

    fn put_back_at_end(&mut self) {
        if matches!(&self.source, Source::Plain(body) if body.is_end_stream()) {
            self.put_back();
        }
    }

    fn put_back(&mut self) {
        if let Some((sender, pool)) = self.held.take() {
            pool.put_back(sender);
        }
    }
}

/// Passes on the response that a request carries, so that the layer, which wraps a client, can be applied to a response.
struct Received;

impl Service<Request<Response<Incoming>>> for Received {
    type Response = Response<Incoming>;
    type Error = Infallible;
    type Future = future::Ready<Result<Response<Incoming>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Response<Incoming>>) -> Self::Future {
        future::ready(Ok(request.into_body()))
    }
}
