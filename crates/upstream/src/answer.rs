//! What a successful attempt gives: a whole answer, or a stream whose first event has arrived.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{Stream, stream::BoxStream};
use http::{HeaderMap, StatusCode};
use mcpctl_dialect::{
    openai::chunk::{Chunk, Usage},
    sse::Frame,
};

use crate::Failure;

/// An answer to one attempt.
#[derive(Debug)]
pub enum Answer {
    /// All of it.
    Whole(WholeAnswer),
    /// As it comes.
    Stream(StreamAnswer),
}

/// An answer that arrived in full. A request for a stream gets one too where the server does not stream.
#[derive(Debug)]
pub struct WholeAnswer {
    /// The upstream's status, a success.
    pub status: StatusCode,
    /// The upstream's headers, without those that concern only its connection.
    pub headers: HeaderMap,
    /// The body as it came; at most [`WholeAnswer::MAX_BODY`] bytes.
    pub body: Bytes,
    /// What the model counted.
    pub usage: Option<Usage>,
    /// The model that answered.
    pub model: Option<String>,
}

impl WholeAnswer {
    /// The bound of a whole answer, in bytes: room for 1,000 embeddings of 3,072 numbers written out.
    pub const MAX_BODY: usize = 64 * 1024 * 1024;
}

/// An answer that streams.
#[derive(Debug)]
pub struct StreamAnswer {
    /// The upstream's status, a success.
    pub status: StatusCode,
    /// The upstream's headers, without those that concern only its connection.
    pub headers: HeaderMap,
    /// Why the holding ended.
    pub held_until: Held,
    /// Everything up to then, in order, that event included.
    pub held: Vec<StreamEvent>,
    /// What follows.
    pub rest: StreamEvents,
}

/// What ended the holding of a stream's start-up events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// The first event with content.
    Content,
    /// The stream was complete without any content.
    Done,
    /// There were more start-up events than may be held. They are released: the stream counts as begun, and
    /// its failures from here on are `broken_stream`.
    Overflow,
}

/// An event of a stream: its bytes, and what they mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// The bytes to forward.
    pub frame: Frame,
    /// What they carry.
    pub chunk: Chunk,
}

/// The events after the held ones. It ends after `[DONE]`, or after a [`Failure`] of class `broken_stream`;
/// dropping it cancels the request at the upstream.
pub struct StreamEvents(pub(crate) BoxStream<'static, Result<StreamEvent, Failure>>);

impl Stream for StreamEvents {
    type Item = Result<StreamEvent, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl fmt::Debug for StreamEvents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StreamEvents").finish_non_exhaustive()
    }
}
