//! Reads the body of a streamed response as classified events, and knows whether the stream has completed.
//! What a broken one means depends on how far it got, and is said by the one who reads.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mcpctl_dialect::{
    openai::{
        chunk::{Chunk, ChunkKind},
        error::UpstreamError,
    },
    sse::{Decoder, EventTooLarge, Frame},
};
use tokio::time::timeout;

use crate::{
    StreamEvent,
    screen::{Screen, SpeltOut},
};

/// After `[DONE]`, how long to wait for the body's own end, which lets the connection be used again.
const LINGER: Duration = Duration::from_millis(500);

/// Most bytes of a body without framing that may be an error.
const MAX_UNFRAMED: usize = 64 * 1024;

pub(crate) struct Reader {
    response: reqwest::Response,
    decoder: Decoder,
    /// What the body began with, while it may be an error without a stream's framing.
    unframed: Option<BytesMut>,
    /// Whether any event was one of a completion: then an unreadable one among them is the caller's to judge.
    recognized: bool,
    /// How many choices have yet to finish.
    unfinished: u64,
    done: bool,
    ended: bool,
    /// What may pass of an event.
    screen: Screen,
}

/// Why a stream cannot be read on.
#[derive(Debug)]
pub(crate) enum Break {
    /// The connection failed.
    Cut(reqwest::Error),
    /// The body ended, but the answer in it had not.
    Incomplete,
    /// No bytes for too long.
    Stalled(Duration),
    /// The server reports an error in the stream.
    InBand(UpstreamError, Bytes),
    /// What came is no chunk.
    Unreadable(Bytes),
    /// It spells our credential out.
    Credential,
    /// An event is larger than is accepted.
    TooLarge(EventTooLarge),
}

impl Break {
    pub(crate) fn detail(&self) -> String {
        match self {
            Self::Cut(_) => "the stream was cut".into(),
            Self::Incomplete => "the stream ended before it was complete".into(),
            Self::Stalled(idle) => format!("the stream stalled for {idle:?}"),
            Self::InBand(..) => "the upstream reported an error inside the stream".into(),
            Self::Unreadable(_) => "the stream holds an event that cannot be read".into(),
            Self::Credential => "the stream spells out the credential that was sent".into(),
            Self::TooLarge(error) => error.to_string(),
        }
    }
}

impl Reader {
    /// Reads a response of which `start` was read already.
    pub(crate) fn new(response: reqwest::Response, start: &[u8], choices: u64, screen: Screen) -> Self {
        let mut reader = Self {
            response,
            decoder: Decoder::default(),
            unframed: Some(BytesMut::new()),
            recognized: false,
            unfinished: choices.max(1),
            done: false,
            ended: false,
            screen,
        };
        reader.push(start);
        reader
    }

    fn push(&mut self, bytes: &[u8]) {
        self.decoder.push(bytes);
        if let Some(start) = &mut self.unframed {
            start.extend_from_slice(bytes);
            let may_be_error = start.trim_ascii_start().first().is_none_or(|first| b"{[".contains(first));
            if !may_be_error || start.len() > MAX_UNFRAMED {
                self.unframed = None;
            }
        }
    }

    /// Why a stream ended before its answer did: with an error that the server wrote without framing, perhaps.
    fn incomplete(&mut self) -> Break {
        let body = self.unframed.take().map(|start| self.screen.text(start.freeze())).unwrap_or_default();
        let error = UpstreamError::read(&body);
        if error.message.is_some() { Break::InBand(error, body) } else { Break::Incomplete }
    }

    /// The next event; nothing after the stream has completed. Without `idle` it waits as long as it takes.
    pub(crate) async fn next(&mut self, idle: Option<Duration>) -> Result<Option<StreamEvent>, Break> {
        if self.done {
            self.linger().await;
            return Ok(None);
        }
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(Break::TooLarge)? {
                return self.take(frame).map(Some);
            }
            if self.ended {
                // Some servers end after the last finish reason, without `[DONE]`.
                return if self.unfinished == 0 { Ok(None) } else { Err(self.incomplete()) };
            }
            let arrived = match idle {
                Some(idle) => timeout(idle, self.response.chunk()).await.map_err(|_| Break::Stalled(idle))?,
                None => self.response.chunk().await,
            };
            match arrived.map_err(Break::Cut)? {
                Some(bytes) => self.push(&bytes),
                None => {
                    self.ended = true;
                    let decoder = std::mem::take(&mut self.decoder);
                    if let Some(frame) = decoder.finish().map_err(Break::TooLarge)? {
                        return self.take(frame).map(Some);
                    }
                }
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<StreamEvent, Break> {
        if let Some(body) = unframed_error(&frame) {
            let body = self.screen.text(body);
            return Err(Break::InBand(UpstreamError::read(&body), body));
        }
        let frame = self.screen.frame(frame).map_err(|SpeltOut| Break::Credential)?;
        let mut chunk = Chunk::read(&frame);
        match chunk.kind {
            // Nothing says that it holds no content, so it counts as content and goes on as it is.
            ChunkKind::Unreadable if self.recognized => chunk.kind = ChunkKind::Content,
            // Another service's words are not for callers, and clients read none of them.
            ChunkKind::Foreign if self.recognized => {
                return Ok(StreamEvent {
                    frame: frame.without_data(),
                    chunk: Chunk { kind: ChunkKind::Silent, ..chunk },
                });
            }
            ChunkKind::Foreign | ChunkKind::Unreadable => {
                return Err(Break::Unreadable(frame.data.unwrap_or_default()));
            }
            ChunkKind::Error(error) => return Err(Break::InBand(error, frame.data.unwrap_or_default())),
            ChunkKind::Done => self.done = true,
            ChunkKind::StartUp | ChunkKind::Content | ChunkKind::UsageOnly => {
                self.recognized = true;
                self.unframed = None;
            }
            ChunkKind::Silent => {}
        }
        let finished = u64::try_from(chunk.finished_choices).unwrap_or(u64::MAX);
        self.unfinished = self.unfinished.saturating_sub(finished);
        Ok(StreamEvent { frame, chunk })
    }

    /// Nothing after `[DONE]` is part of the answer, and no fault there takes anything from it.
    async fn linger(&mut self) {
        if !self.ended {
            self.ended = true;
            let rest = async { while let Ok(Some(_)) = self.response.chunk().await {} };
            let _ = timeout(LINGER, rest).await;
        }
    }
}

/// The error of a line `error: {…}`, which earlier versions of llama.cpp write where others write `data:`.
fn unframed_error(frame: &Frame) -> Option<Bytes> {
    let body = frame.raw.strip_prefix(b"error:").filter(|_| frame.data.is_none())?.trim_ascii();
    body.starts_with(b"{").then(|| frame.raw.slice_ref(body))
}
