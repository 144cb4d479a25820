//! The body of a response, decompressed where the server compressed it unasked. It holds the connection, and puts it back at its
//! end; dropped before, it closes the connection, which cancels the request.

use std::{
    convert::Infallible,
    future::{self, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, header::CONTENT_ENCODING};
use http_body_util::Full;
use hyper::{
    body::{Body as _, Incoming},
    client::conn::http1::SendRequest,
};
use tokio::time::Sleep;
use tower_http::decompression::{Decompression, DecompressionBody};
use tower_service::Service;

use crate::{connect_error::SendError, patience::before, pool::Pool, progress};

/// How much room is made for a body because its server announced it, in bytes; the rest as it arrives.
const MAX_RESERVED_BYTES: usize = 1024 * 1024;

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

    /// Whether the last byte was read, as far as that shows without waiting.
    fn is_at_end(&self) -> bool {
        matches!(&self.source, Source::Plain(body) if body.is_end_stream())
    }

    /// How many bytes are still to come, where the server announced that.
    fn rest(&self) -> usize {
        let Source::Plain(body) = &self.source else { return 0 };
        body.size_hint().exact().and_then(|rest| rest.try_into().ok()).unwrap_or(0)
    }

    fn put_back_at_end(&mut self) {
        if self.is_at_end() {
            self.put_back();
        }
    }

    fn put_back(&mut self) {
        if let Some((sender, pool)) = self.held.take() {
            pool.put_back(sender);
        }
    }
}

/// How the reading of a body ended.
pub(crate) enum BodyEnd {
    Complete,
    Cut(SendError),
    TooLate,
    TooLarge,
}

/// Reads a body, of which `start` was read already, until its end, `max` bytes or the timer; returns what arrived, and how it
/// ended. A body in one piece is not copied.
pub(crate) async fn read_body(
    mut body: Body,
    start: Bytes,
    max: usize,
    mut timer: Pin<&mut Sleep>,
) -> (Bytes, BodyEnd) {
    let mut read = Pieces::One(start);
    loop {
        if body.is_at_end() {
            return (read.joined(), BodyEnd::Complete);
        }
        match before(timer.as_mut(), body.data()).await {
            Some(Some(Ok(mut piece))) => {
                progress::received();
                let room = max.saturating_sub(read.len());
                let fits = piece.len() <= room;
                piece.truncate(room);
                read.push(piece, body.rest());
                if !fits {
                    return (read.joined(), BodyEnd::TooLarge);
                }
            }
            Some(None) => return (read.joined(), BodyEnd::Complete),
            Some(Some(Err(error))) => return (read.joined(), BodyEnd::Cut(error)),
            None => return (read.joined(), BodyEnd::TooLate),
        }
    }
}

/// What was read of a body: a piece as it came, or several in one buffer.
enum Pieces {
    One(Bytes),
    Joined(BytesMut),
}

impl Pieces {
    fn len(&self) -> usize {
        match self {
            Self::One(piece) => piece.len(),
            Self::Joined(buffer) => buffer.len(),
        }
    }

    /// Appends a piece; `rest` is how many bytes the server announced after it.
    fn push(&mut self, piece: Bytes, rest: usize) {
        match self {
            Self::One(first) if first.is_empty() => *first = piece,
            Self::One(first) => {
                let announced = rest.min(MAX_RESERVED_BYTES);
                let mut buffer = BytesMut::with_capacity(first.len() + piece.len() + announced);
                buffer.extend_from_slice(first);
                buffer.extend_from_slice(&piece);
                *self = Self::Joined(buffer);
            }
            Self::Joined(buffer) => buffer.extend_from_slice(&piece),
        }
    }

    fn joined(self) -> Bytes {
        match self {
            Self::One(piece) => piece,
            Self::Joined(buffer) => buffer.freeze(),
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
