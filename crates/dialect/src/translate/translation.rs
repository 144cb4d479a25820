//! Joins the readers of one dialect with the writers of another, for one request.
//!
//! A pair of the same operations needs no translation: such bodies and events are forwarded byte for byte.

use bytes::{Bytes, BytesMut};

use super::{
    dialects::{DeltaReader, DeltaWriter, Reads, Writes},
    reply::{Delta, WriterOptions},
};
use crate::{Operation, error::UpstreamError, request_error::RequestError, sse::Frame};

/// The way from a caller's operation to another one of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Translation {
    caller: Reads,
    upstream: Writes,
}

/// No operation of the upstream can answer the caller's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{}` has no counterpart at the provider of this model, which serves `{}`", caller.path(), upstream.path())]
pub struct Untranslatable {
    /// What the caller asks for.
    pub caller: Operation,
    /// What the upstream serves.
    pub upstream: Operation,
}

/// A request for the upstream, and what turns its answer into the caller's dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranslatedRequest {
    /// The body for the upstream. It does not ask for usage in a stream of chat completions.
    pub body: Bytes,
    /// For the answer.
    pub answer: AnswerTranslation,
}

impl Translation {
    /// The way from `caller` to `upstream`; `None` where they are the same.
    ///
    /// # Errors
    /// [`Untranslatable`] where there is no way.
    pub fn between(caller: Operation, upstream: Operation) -> Result<Option<Self>, Untranslatable> {
        if caller == upstream {
            return Ok(None);
        }
        match (Reads::of(caller), Writes::of(upstream)) {
            (Some(caller), Some(upstream)) => Ok(Some(Self { caller, upstream })),
            _ => Err(Untranslatable { caller, upstream }),
        }
    }

    /// Translates a request for `model`. `now`, in seconds since 1970, dates an answer whose provider does not.
    ///
    /// # Errors
    /// [`RequestError`] with the path of a field that is malformed or that the upstream's dialect cannot express.
    pub fn request(self, body: &[u8], model: &str, now: u64) -> Result<TranslatedRequest, RequestError> {
        let conversation = self.caller.read_request(body)?;
        let body = self.upstream.write_request(&conversation, model).map_err(|mut error| {
            if let RequestError::Unsupported { param, .. } | RequestError::Invalid { param, .. } = &mut error
                && let Some(name) = self.caller.param(param, &conversation)
            {
                name.clone_into(param);
            }
            error
        })?;
        let options = WriterOptions::of(&conversation, now);
        let answer = AnswerTranslation { caller: self.caller, upstream: self.upstream, options };
        Ok(TranslatedRequest { body, answer })
    }
}

/// Turns an upstream's answer into the caller's dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerTranslation {
    caller: Reads,
    upstream: Writes,
    options: WriterOptions,
}

impl AnswerTranslation {
    /// Translates a whole answer; `None` where the body is not one of the upstream's dialect.
    pub fn whole(&self, body: &[u8]) -> Option<Bytes> {
        let mut reply = self.upstream.read_reply(body)?;
        reply.created = reply.created.or(Some(self.options.now));
        Some(self.caller.write_reply(&reply, &self.options))
    }

    /// How a stream for the caller is written.
    pub fn options(&self) -> &WriterOptions {
        &self.options
    }

    /// Translates a stream.
    pub fn stream(&self) -> StreamTranslation {
        let (reader, writer) = (self.upstream.reader(), self.caller.writer(&self.options));
        StreamTranslation { reader, writer }
    }
}

/// Translates the events of one stream.
#[derive(Debug)]
pub struct StreamTranslation {
    reader: DeltaReader,
    writer: DeltaWriter,
}

impl StreamTranslation {
    /// Goes on for `caller` where a stream broke off, with the events of `upstream`, after `delivered` was delivered. `None` for
    /// an operation that cannot be translated.
    pub fn resumed(
        caller: Operation,
        upstream: Operation,
        options: &WriterOptions,
        delivered: &[Delta],
    ) -> Option<Self> {
        let (reader, mut writer) = (DeltaReader::of(upstream)?, DeltaWriter::of(caller, options)?);
        for delta in delivered {
            writer.write(delta);
        }
        Some(Self { reader, writer })
    }

    /// Goes on with the events of another attempt; false for an operation that cannot be translated.
    pub fn follow(&mut self, upstream: Operation) -> bool {
        DeltaReader::of(upstream).map(|reader| self.reader = reader).is_some()
    }

    /// The events for the caller that an event of the upstream becomes; empty where it becomes none.
    pub fn push(&mut self, frame: &Frame) -> Bytes {
        let mut out = BytesMut::new();
        for delta in self.read(frame) {
            out.extend_from_slice(&self.write(&delta));
        }
        out.freeze()
    }

    /// What an event of the upstream adds.
    pub fn read(&mut self, frame: &Frame) -> Vec<Delta> {
        self.reader.read(frame)
    }

    /// Whether the upstream's stream has more than is read, so that it cannot be translated to its end.
    pub fn exceeds_bounds(&self) -> bool {
        self.reader.exceeds_bounds()
    }

    /// The events for the caller that a piece becomes.
    pub fn write(&mut self, delta: &Delta) -> Bytes {
        self.writer.write(delta)
    }

    /// Whether the answer cannot go on in the caller's dialect. The error event that ends the stream is written.
    pub fn has_failed(&self) -> bool {
        self.writer.has_failed()
    }

    /// The proper end. It is written once the upstream's stream is complete, and never after a failure (INVARIANT 13).
    pub fn finish(&mut self) -> Bytes {
        self.writer.finish()
    }
}

/// Writes a provider's error in the shape of the caller's dialect.
pub fn error_body(caller: Operation, error: &UpstreamError, status: u16) -> Bytes {
    Reads::of(caller).unwrap_or(Reads::Chat).error_body(error, status)
}

/// Writes the event that ends a broken stream of the caller's dialect.
pub fn error_event(caller: Operation, message: &str, kind: &str, code: &str) -> Bytes {
    Reads::of(caller).unwrap_or(Reads::Chat).error_event(message, kind, code)
}
