//! Reads the body of a streamed response as classified events, and decides whether the stream is complete. The class of a failure
//! depends on how far the stream got; `attempt` decides on it.

use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use mcpctl_dialect::{
    Event, EventMeaning, EventReader,
    error::UpstreamError,
    lenient,
    sse::{Decoder, EventTooLarge, Frame},
};
use tokio::time::Instant;

use crate::{
    Request, StreamEvent,
    body::Body,
    connect_error::SendError,
    patience::{Expired, Patience},
    progress,
    screen::{CredentialSpelledOut, Screen},
};

/// How long to wait, after `[DONE]`, for the end of the body, after which the connection can be reused.
const LINGER_TIMEOUT: Duration = Duration::from_millis(500);

/// Longest body that is kept as a possible error without a stream's framing, in bytes.
const MAX_UNFRAMED: usize = 64 * 1024;

pub(crate) struct Reader {
    body: Body,
    events: EventReader,
    decoder: Decoder,
    /// The body so far, while it may be an error without a stream's framing.
    unframed: Option<BytesMut>,
    /// Whether any event so far was a completion's. Then unreadable events are forwarded.
    recognized: bool,
    /// How many choices have not finished yet.
    unfinished: u64,
    done: bool,
    ended: bool,
    /// Removes from events what must not be forwarded.
    screen: Screen,
    /// How long it is waited for.
    pub(crate) patience: Patience,
}

/// Why a stream cannot be continued.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// The connection failed.
    Cut(SendError),
    /// The body ended, but the answer in it had not.
    Incomplete,
    /// It was waited for as long as may be.
    Late(Expired),
    /// The server reported an error in the stream.
    InBand(UpstreamError, Bytes),
    /// An event is not one of an answer.
    Unreadable(Bytes),
    /// The stream spells out our credential.
    Credential,
    /// An event exceeds the limit.
    TooLarge(EventTooLarge),
}

impl StreamError {
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Cut(_) => "the stream was cut".into(),
            Self::Incomplete => "the stream ended before it was complete".into(),
            Self::Late(Expired::Idle(idle)) => format!("the stream stalled for {idle:?}"),
            Self::Late(Expired::Content) => "the stream had no content in time".into(),
            Self::InBand(..) => "the upstream reported an error inside the stream".into(),
            Self::Unreadable(_) => "the stream holds an event that cannot be read".into(),
            Self::Credential => "the stream spells out the credential that was sent".into(),
            Self::TooLarge(error) => error.to_string(),
        }
    }
}

impl Reader {
    /// Reads a body, of which `start` was read already.
    pub(crate) fn new(
        body: Body,
        start: Bytes,
        request: &Request,
        screen: Screen,
        patience: Patience,
    ) -> Self {
        let mut reader = Self {
            body,
            events: EventReader::new(request.operation),
            decoder: Decoder::default(),
            unframed: Some(BytesMut::new()),
            recognized: false,
            unfinished: request.choices.max(1),
            done: false,
            ended: false,
            screen,
            patience,
        };
        reader.push(start);
        reader
    }

    fn push(&mut self, bytes: Bytes) {
        if let Some(start) = &mut self.unframed {
            start.extend_from_slice(&bytes);
            let may_be_error = start.trim_ascii_start().first().is_none_or(|first| b"{[".contains(first));
            if !may_be_error || start.len() > MAX_UNFRAMED {
                self.unframed = None;
            }
        }
        self.decoder.push_piece(bytes);
    }

    /// Why a stream ended before it was complete: an error that the server wrote without framing, or an unknown cause.
    fn incomplete(&mut self) -> StreamError {
        let body = self.unframed.take().map(|start| self.screen.text(start.freeze())).unwrap_or_default();
        let error = UpstreamError::read(&body);
        if error.message.is_some() { StreamError::InBand(error, body) } else { StreamError::Incomplete }
    }

    /// The next event; `None` after the stream is complete.
    pub(crate) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<StreamEvent>, StreamError>> {
        if self.done {
            return self.poll_linger(context).map(|()| Ok(None));
        }
        loop {
            if let Some(next) = self.arrived() {
                return Poll::Ready(next.map(Some));
            }
            if self.ended {
                // Some servers end after the last finish reason, without `[DONE]`.
                let complete = self.unfinished == 0;
                return Poll::Ready(if complete { Ok(None) } else { Err(self.incomplete()) });
            }
            match self.body.poll_data(context) {
                Poll::Ready(Some(Ok(bytes))) => {
                    progress::received();
                    self.patience.arrived().map_err(StreamError::Late)?;
                    self.push(bytes);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(StreamError::Cut(error))),
                Poll::Ready(None) => {
                    self.ended = true;
                    let decoder = std::mem::take(&mut self.decoder);
                    if let Some(frame) = decoder.finish().map_err(StreamError::TooLarge)? {
                        return Poll::Ready(self.take(frame).map(Some));
                    }
                }
                Poll::Pending => {
                    return self
                        .patience
                        .poll_expired(context)
                        .map(|expired| Err(StreamError::Late(expired)));
                }
            }
        }
    }

    /// The next event of the bytes that have arrived; `None` where more are needed, or the stream is complete.
    pub(crate) fn arrived(&mut self) -> Option<Result<StreamEvent, StreamError>> {
        if self.done {
            return None;
        }
        let frame = self.decoder.next_frame().map_err(StreamError::TooLarge).transpose()?;
        Some(frame.and_then(|frame| self.take(frame)))
    }

    fn take(&mut self, frame: Frame) -> Result<StreamEvent, StreamError> {
        if let Some(body) = unframed_error(&frame) {
            let body = self.screen.text(body);
            return Err(StreamError::InBand(UpstreamError::read(&body), body));
        }
        let frame = self.screen.frame(frame);
        let event = self.screen.read(&mut self.events, &frame);
        let mut event = event.map_err(|CredentialSpelledOut| StreamError::Credential)?;
        match event.meaning {
            // It may have content, so it counts as content and is forwarded unchanged.
            EventMeaning::Unreadable if self.recognized && is_object(&frame) => {
                event.meaning = EventMeaning::Content;
            }
            // What is no JSON object makes clients fail, and is skipped; if the stream does not complete, it is broken anyway. Another
            // object may come from another service, which callers must not read, and clients ignore such events.
            EventMeaning::Foreign | EventMeaning::Unreadable if self.recognized => {
                return Ok(StreamEvent {
                    frame: frame.without_data(),
                    event: Event { meaning: EventMeaning::Silent, ..event },
                });
            }
            EventMeaning::Foreign | EventMeaning::Unreadable => {
                return Err(StreamError::Unreadable(frame.data.unwrap_or_default()));
            }
            EventMeaning::Error(error) => {
                return Err(StreamError::InBand(error, frame.data.unwrap_or_default()));
            }
            EventMeaning::Done => {
                self.done = true;
                self.patience.linger(Instant::now() + LINGER_TIMEOUT);
            }
            EventMeaning::StartUp | EventMeaning::Content | EventMeaning::UsageOnly => {
                self.recognized = true;
                self.unframed = None;
            }
            // Clients that keep to the standard ignore an event whose data is empty; others read it as JSON, and fail.
            EventMeaning::Silent if has_blank_data(&frame) => {
                return Ok(StreamEvent { frame: frame.without_data(), event });
            }
            EventMeaning::Silent => {}
        }
        if event.meaning == EventMeaning::Content {
            self.patience.content();
        }
        let finished = u64::try_from(event.finished).unwrap_or(u64::MAX);
        self.unfinished = self.unfinished.saturating_sub(finished);
        Ok(StreamEvent { frame, event })
    }

    /// Reads to the end of the body. Nothing after `[DONE]` is part of the answer, so errors are ignored.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.ended {
            self.ended = match self.body.poll_data(context) {
                Poll::Ready(Some(Ok(_))) => self.patience.arrived().is_err(),
                Poll::Ready(_) => true,
                Poll::Pending => {
                    ready!(self.patience.poll_expired(context));
                    true
                }
            };
        }
        Poll::Ready(())
    }
}

/// Whether an event's data is a JSON object, as tolerantly as clients read it. Tolerance makes other JSON of almost any text.
fn is_object(frame: &Frame) -> bool {
    frame.data.as_deref().and_then(lenient::value).is_some_and(|value| value.is_object())
}

fn has_blank_data(frame: &Frame) -> bool {
    frame.data.as_deref().is_some_and(|data| data.trim_ascii().is_empty())
}

/// The error in a line `error: {…}`, which earlier versions of llama.cpp write instead of `data: {…}`.
fn unframed_error(frame: &Frame) -> Option<Bytes> {
    let body = frame.raw.strip_prefix(b"error:").filter(|_| frame.data.is_none())?.trim_ascii();
    body.starts_with(b"{").then(|| frame.raw.slice_ref(body))
}
