//! Reads events and answers in the dialect of their operation.

use serde::Deserialize;

use crate::{
    anthropic,
    event::{AnswerBody, Event, added_texts},
    lenient,
    openai::{self, responses},
    operation::Operation,
    sse::Frame,
};

/// Reads the events of one stream, in the dialect of the operation that it answers.
#[derive(Debug, Clone)]
pub struct EventReader(Reader);

#[derive(Debug, Clone)]
enum Reader {
    Completions,
    Responses,
    Messages(anthropic::event::EventReader),
}

impl EventReader {
    /// A reader of a stream from its start.
    pub fn new(operation: Operation) -> Self {
        Self(match operation {
            Operation::Chat | Operation::Completions | Operation::Embeddings => Reader::Completions,
            Operation::Responses => Reader::Responses,
            Operation::Messages | Operation::CountTokens => Reader::Messages(Default::default()),
        })
    }

    /// Classifies the next frame.
    pub fn read(&mut self, frame: &Frame) -> Event {
        match &mut self.0 {
            Reader::Completions => openai::event::read(frame),
            Reader::Responses => responses::event::read_event(frame),
            Reader::Messages(reader) => reader.read(frame),
        }
    }

    /// As [`EventReader::read`], with the text that the event adds to each choice, by its index.
    pub fn read_with_texts(&mut self, frame: &Frame) -> (Event, Vec<(u64, String)>) {
        match &self.0 {
            Reader::Completions => openai::event::read_with_texts(frame),
            Reader::Responses | Reader::Messages(_) => {
                (self.read(frame), added_texts(frame.data.as_deref().unwrap_or_default()))
            }
        }
    }
}

impl AnswerBody {
    /// Reads a whole answer to `operation`. `None` for a body that is neither such an answer nor an error: other JSON may be
    /// another service's answer, which callers must not see.
    pub fn read(operation: Operation, body: &[u8]) -> Option<Self> {
        match operation {
            Operation::Chat | Operation::Completions | Operation::Embeddings => {
                openai::event::read_answer(body)
            }
            Operation::Responses => responses::answer::read_answer(body),
            Operation::Messages => anthropic::answer::read(body),
            Operation::CountTokens => anthropic::answer::read_count(body),
        }
    }
}

/// Longest name of an event, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Removes from a frame what a server may write anything into: comments and all fields but `data`. In a dialect whose events have
/// names, by which clients recognize them, the frame is named after the type in its data. A frame that is so already keeps its
/// bytes; one without data becomes a keep-alive comment.
#[must_use]
pub fn data_only(operation: Operation, frame: Frame) -> Frame {
    #[derive(Deserialize)]
    struct Typed {
        #[serde(rename = "type", default)]
        name: Option<String>,
    }

    match operation {
        Operation::Chat | Operation::Completions | Operation::Embeddings => frame.data_only(),
        Operation::Responses | Operation::Messages | Operation::CountTokens => {
            let is_name = |name: &String| {
                name.len() <= MAX_NAME_BYTES
                    && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte))
            };
            let name = frame.data.as_deref().and_then(lenient::object::<Typed>).and_then(|typed| typed.name);
            match name.filter(is_name) {
                Some(name) => frame.named_data_only(&name),
                None => frame.data_only(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::Decoder;

    #[test]
    fn events_are_named_after_their_data() {
        for (raw, expected) in [
            (
                ": secret\nevent: secret\nid: secret\ndata: {\"type\":\"message_stop\"}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ),
            (
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
                "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            ),
            ("event: A secret\ndata: {\"type\":\"A secret\"}\n\n", "data: {\"type\":\"A secret\"}\n\n"),
            (": secret\n\n", ":\n\n"),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(raw.as_bytes());
            let frame = decoder.next_frame().unwrap().unwrap();
            assert_eq!(data_only(Operation::Messages, frame).raw, expected);
        }
    }
}
