//! The operations that can be translated, and the functions of each.

use bytes::Bytes;

use super::{
    chat,
    conversation::Conversation,
    messages,
    reply::{Delta, Reply, WriterOptions},
    responses,
};
use crate::{Operation, error::UpstreamError, request_error::RequestError, sse::Frame};

/// What a caller may ask for where an upstream serves something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    Chat,
    Responses,
    Messages,
}

impl Reads {
    pub(super) const fn of(caller: Operation) -> Option<Self> {
        match caller {
            Operation::Chat => Some(Self::Chat),
            Operation::Responses => Some(Self::Responses),
            Operation::Messages => Some(Self::Messages),
            _ => None,
        }
    }

    pub(super) fn read_request(self, body: &[u8]) -> Result<Conversation, RequestError> {
        match self {
            Self::Chat => chat::read_request(body),
            Self::Responses => responses::read_request(body),
            Self::Messages => messages::read_request(body),
        }
    }

    /// The name to the caller of a member of the body that a writer refuses. Writers name it as chat completions do.
    pub(super) fn param(self, written: &str, conversation: &Conversation) -> Option<&'static str> {
        match (self, written) {
            (Self::Responses, "response_format.type") => Some("text.format.type"),
            // Without a number the caller asked by `include`.
            (Self::Responses, "logprobs") if conversation.logprobs == Some(0) => Some("include"),
            (Self::Responses, "logprobs") => Some("top_logprobs"),
            _ => None,
        }
    }

    pub(super) fn write_reply(self, reply: &Reply, options: &WriterOptions) -> Bytes {
        match self {
            Self::Chat => chat::write_reply(reply),
            Self::Responses => responses::write_reply(reply, options),
            Self::Messages => messages::write_reply(reply),
        }
    }

    pub(super) fn writer(self, options: &WriterOptions) -> DeltaWriter {
        match self {
            Self::Chat => DeltaWriter::Chat(chat::StreamWriter::new(options)),
            Self::Responses => DeltaWriter::Responses(responses::StreamWriter::new(options)),
            Self::Messages => DeltaWriter::Messages(messages::StreamWriter::new(options)),
        }
    }

    pub(super) fn error_body(self, error: &UpstreamError, status: u16) -> Bytes {
        match self {
            Self::Chat => chat::error_body(error, status),
            Self::Responses => responses::error_body(error, status),
            Self::Messages => messages::error_body(error, status),
        }
    }

    pub(super) fn error_event(self, message: &str, kind: &str, code: &str) -> Bytes {
        match self {
            Self::Chat => chat::error_event(message, kind, code),
            Self::Responses => responses::error_event(message, kind, code),
            Self::Messages => messages::error_event(message, kind, code),
        }
    }
}

/// What an upstream may serve where a caller asks for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    Chat,
    Messages,
}

impl Writes {
    pub(super) const fn of(upstream: Operation) -> Option<Self> {
        match upstream {
            Operation::Chat => Some(Self::Chat),
            Operation::Messages => Some(Self::Messages),
            _ => None,
        }
    }

    pub(super) fn write_request(
        self,
        conversation: &Conversation,
        model: &str,
    ) -> Result<Bytes, RequestError> {
        match self {
            Self::Chat => chat::write_request(conversation, model),
            Self::Messages => messages::write_request(conversation, model),
        }
    }

    pub(super) fn read_reply(self, body: &[u8]) -> Option<Reply> {
        match self {
            Self::Chat => chat::read_reply(body),
            Self::Messages => messages::read_reply(body),
        }
    }

    pub(super) fn reader(self) -> DeltaReader {
        match self {
            Self::Chat => DeltaReader::Chat(chat::StreamReader::new()),
            Self::Messages => DeltaReader::Messages(messages::StreamReader::new()),
        }
    }
}

/// Reads a stream of any operation that an upstream may serve.
#[derive(Debug)]
pub enum DeltaReader {
    /// Of chat completions.
    Chat(chat::StreamReader),
    /// Of Anthropic's messages.
    Messages(messages::StreamReader),
}

impl DeltaReader {
    /// A reader at the start of a stream of `upstream`'s; `None` for an operation that is not read.
    pub fn of(upstream: Operation) -> Option<Self> {
        Writes::of(upstream).map(Writes::reader)
    }

    /// The deltas of the next event.
    pub fn read(&mut self, frame: &Frame) -> Vec<Delta> {
        match self {
            Self::Chat(reader) => reader.read(frame),
            Self::Messages(reader) => reader.read(frame),
        }
    }

    /// The deltas of what was read and is still held back. `None` where a caller who got the events as they came has more than
    /// deltas express, so that no writer can go on for that caller.
    pub fn held_back(&mut self) -> Option<Vec<Delta>> {
        let mut deltas = Vec::new();
        let expressed = match self {
            Self::Chat(reader) => reader.announce(&mut deltas),
            Self::Messages(reader) => !reader.is_between_blocks(),
        };
        expressed.then_some(deltas)
    }

    /// Whether the stream has more than is read, so that what is read is not the answer.
    pub fn exceeds_bounds(&self) -> bool {
        match self {
            Self::Chat(reader) => reader.exceeds_bounds(),
            Self::Messages(reader) => reader.exceeds_bounds(),
        }
    }

    /// Whether a piece of content was read whose delta comes later.
    pub fn holds_back(&self) -> bool {
        match self {
            Self::Chat(reader) => reader.holds_a_call(),
            Self::Messages(_) => false,
        }
    }
}

/// Writes a stream of any operation that a caller may ask for.
#[derive(Debug)]
pub enum DeltaWriter {
    /// Of chat completions.
    Chat(chat::StreamWriter),
    /// Of OpenAI's responses.
    Responses(responses::StreamWriter),
    /// Of Anthropic's messages.
    Messages(messages::StreamWriter),
}

impl DeltaWriter {
    /// A writer at the start of a stream for `caller`; `None` for an operation that is not written.
    pub fn of(caller: Operation, options: &WriterOptions) -> Option<Self> {
        Reads::of(caller).map(|caller| caller.writer(options))
    }

    /// The events of the next delta: zero or more complete frames.
    pub fn write(&mut self, delta: &Delta) -> Bytes {
        match self {
            Self::Chat(writer) => writer.write(delta),
            Self::Responses(writer) => writer.write(delta),
            Self::Messages(writer) => writer.write(delta),
        }
    }

    /// Whether the answer cannot go on in this dialect. The error event that ends the stream is written.
    pub fn has_failed(&self) -> bool {
        match self {
            Self::Responses(writer) => writer.has_failed(),
            Self::Chat(_) | Self::Messages(_) => false,
        }
    }

    /// The proper end of a stream that is complete.
    pub fn finish(&mut self) -> Bytes {
        match self {
            Self::Chat(writer) => writer.finish(),
            Self::Responses(writer) => writer.finish(),
            Self::Messages(writer) => writer.finish(),
        }
    }
}
