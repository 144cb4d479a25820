//! The result of a successful attempt: a whole answer, or a stream whose first event has arrived.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream::BoxStream};
use http::{HeaderMap, StatusCode};
use mcpctl_dialect::{Event, sse::Frame, usage::Usage};

use crate::{Failure, attempt::OpenStream};

/// The answer to one attempt.
#[derive(Debug)]
pub enum Answer {
    /// An answer that arrived in full.
    Whole(WholeAnswer),
    /// An answer that streams.
    Stream(StreamAnswer),
}

/// An answer that arrived in full. A request for a stream also gets one where the server does not stream.
#[derive(Debug)]
pub struct WholeAnswer {
    /// The upstream's status, a success.
    pub status: StatusCode,
    /// The upstream's headers, without those that concern only its connection.
    pub headers: HeaderMap,
    /// The body as it came; at most [`WholeAnswer::MAX_BODY`] bytes.
    pub body: Bytes,
    /// The tokens that the model counted.
    pub usage: Option<Usage>,
    /// The model that answered.
    pub model: Option<String>,
}

impl WholeAnswer {
    /// The limit of a whole answer, in bytes: room for 1,000 embeddings of 3,072 numbers as text.
    pub const MAX_BODY: usize = 64 * 1024 * 1024;
}

/// An answer that streams.
#[derive(Debug)]
pub struct StreamAnswer {
    /// The upstream's status, a success.
    pub status: StatusCode,
    /// The upstream's headers, without those that concern only its connection.
    pub headers: HeaderMap,
    /// The events that were held until the first one with content, that one included, in order. A stream that is complete
    /// without content, or that exceeds the limits of what is held, has none with content here.
    pub held: Vec<StreamEvent>,
    /// The events after the held ones.
    pub rest: StreamEvents,
}

/// An event of a stream: its bytes and their classification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// The bytes to forward.
    pub frame: Frame,
    /// What the event carries.
    pub event: Event,
}

/// The events after the held ones. The stream ends after `[DONE]`, or after a [`Failure`] of class `broken_stream`. Dropping it
/// cancels the request at the upstream.
pub struct StreamEvents(Source);

enum Source {
    /// An upstream's response.
    Open(Box<OpenStream>),
    /// Events that something else reads.
    Other(BoxStream<'static, Result<StreamEvent, Failure>>),
    Ended,
}

impl StreamEvents {
    /// Events that arrive on `stream`.
    pub fn new(stream: impl Stream<Item = Result<StreamEvent, Failure>> + Send + 'static) -> Self {
        Self(Source::Other(stream.boxed()))
    }

    pub(crate) fn open(stream: OpenStream) -> Self {
        Self(Source::Open(Box::new(stream)))
    }

    /// The next event of the bytes that have arrived already; `None` where that takes a poll of the stream.
    pub fn arrived(&mut self) -> Option<Result<StreamEvent, Failure>> {
        let Source::Open(stream) = &mut self.0 else { return None };
        let next = stream.arrived()?;
        if next.is_err() {
            self.0 = Source::Ended;
        }
        Some(next)
    }
}

impl Stream for StreamEvents {
    type Item = Result<StreamEvent, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match &mut self.0 {
            Source::Open(stream) => ready!(stream.poll_next(context)),
            Source::Other(stream) => return stream.as_mut().poll_next(context),
            Source::Ended => None,
        };
        if !matches!(next, Some(Ok(_))) {
            self.0 = Source::Ended;
        }
        Poll::Ready(next)
    }
}

impl fmt::Debug for StreamEvents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StreamEvents").finish_non_exhaustive()
    }
}
