//! Reads the body of a streamed response as classified events, and knows whether the stream has completed.
//! What a broken one means depends on how far it got, and is said by the one who reads.

use std::time::Duration;

use bytes::Bytes;
use mcpctl_dialect::{
    openai::{
        chunk::{Chunk, Kind},
        error::UpstreamError,
    },
    sse::{Decoder, EventTooLarge},
};
use tokio::time::timeout;

use crate::{
    Event,
    screen::{Screen, SpeltOut},
};

/// After `[DONE]`, how long to wait for the body's own end, which lets the connection be used again.
const LINGER: Duration = Duration::from_millis(500);

pub(crate) struct Reader {
    response: reqwest::Response,
    decoder: Decoder,
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
    Unreadable,
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
            Self::Unreadable => "the stream holds an event that cannot be read".into(),
            Self::Credential => "the stream spells out the credential that was sent".into(),
            Self::TooLarge(error) => error.to_string(),
        }
    }
}

impl Reader {
    pub(crate) fn new(response: reqwest::Response, choices: u64, screen: Screen) -> Self {
        let (decoder, unfinished) = (Decoder::default(), choices.max(1));
        Self { response, decoder, unfinished, done: false, ended: false, screen }
    }

    /// The next event; nothing after the stream has completed. Without `idle` it waits as long as it takes.
    pub(crate) async fn next(&mut self, idle: Option<Duration>) -> Result<Option<Event>, Break> {
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
                return if self.unfinished == 0 { Ok(None) } else { Err(Break::Incomplete) };
            }
            let arrived = match idle {
                Some(idle) => timeout(idle, self.response.chunk()).await.map_err(|_| Break::Stalled(idle))?,
                None => self.response.chunk().await,
            };
            match arrived.map_err(Break::Cut)? {
                Some(bytes) => self.decoder.push(&bytes),
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

    fn take(&mut self, frame: mcpctl_dialect::sse::Frame) -> Result<Event, Break> {
        let frame = self.screen.frame(frame).map_err(|SpeltOut| Break::Credential)?;
        let chunk = Chunk::read(&frame);
        match chunk.kind {
            Kind::Unreadable => return Err(Break::Unreadable),
            Kind::Error(error) => return Err(Break::InBand(error, frame.data.unwrap_or_default())),
            Kind::Done => self.done = true,
            Kind::Silent | Kind::StartUp | Kind::Content | Kind::UsageOnly => {}
        }
        let finished = u64::try_from(chunk.finished_choices).unwrap_or(u64::MAX);
        self.unfinished = self.unfinished.saturating_sub(finished);
        Ok(Event { frame, chunk })
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
