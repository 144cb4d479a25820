//! Classifies the events of a stream: whether there is content, which model answers, how many tokens it used, how the answer
//! ends. It keeps no text.

use serde::Deserialize;
use serde_json::Value;

use super::count::Counts;
use crate::{
    lenient,
    openai::{
        chunk::{Chunk, ChunkKind},
        error::UpstreamError,
        presence::Presence,
    },
    sse::Frame,
};

/// The events of a stream, which are named twice: in the `event` line and in the data's `type`.
const NAMES: [&str; 8] = [
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "ping",
    "error",
];

/// Reads the events of one stream, whose usage arrives in two of them.
#[derive(Debug, Clone, Default)]
pub struct EventReader {
    counts: Counts,
}

impl EventReader {
    /// Classifies a frame. An event of a type that is not known is [`ChunkKind::Foreign`].
    pub fn read(&mut self, frame: &Frame) -> Chunk {
        let Some(data) = frame.data.as_deref() else { return bare(ChunkKind::Silent) };
        let text = data.trim_ascii();
        if text.is_empty() {
            return bare(ChunkKind::Silent);
        }
        let Some(wire) = lenient::object::<WireEvent>(text) else { return bare(ChunkKind::Unreadable) };
        let kind = wire.kind.as_deref().unwrap_or_default();
        if wire.error.0 || kind == "error" || frame.event.as_deref() == Some(b"error") {
            return bare(ChunkKind::Error(UpstreamError::read(text)));
        }
        match kind {
            "message_start" => {
                let Some(message) = wire.message else { return bare(ChunkKind::Unreadable) };
                let usage = self.counts.take(message.usage);
                Chunk { model: message.model, usage, ..bare(ChunkKind::StartUp) }
            }
            "content_block_start" => {
                bare(content_if(wire.content_block.is_some_and(|block| block.has_content())))
            }
            "content_block_delta" => bare(content_if(wire.delta.is_some_and(|delta| delta.has_content()))),
            "content_block_stop" => bare(ChunkKind::StartUp),
            "message_delta" => {
                let usage = self.counts.take(wire.usage);
                let finished = wire.delta.is_some_and(|delta| delta.stop_reason.0);
                let kind = match usage {
                    _ if finished => ChunkKind::Content,
                    Some(_) => ChunkKind::UsageOnly,
                    None => ChunkKind::StartUp,
                };
                Chunk { kind, model: None, usage, finished_choices: usize::from(finished) }
            }
            "message_stop" => bare(ChunkKind::Done),
            "ping" => bare(ChunkKind::Silent),
            _ => bare(ChunkKind::Foreign),
        }
    }
}

/// Removes comments and all fields but `data`, and names the event after the type in its data: clients recognize an event
/// by the `event` line, in which a server may write anything. A frame without data becomes a keep-alive comment.
#[must_use]
pub fn named_data_only(frame: Frame) -> Frame {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "type", default)]
        kind: Option<String>,
    }

    let name = frame.data.as_deref().and_then(lenient::object::<Named>).and_then(|named| named.kind);
    let name = NAMES.into_iter().find(|known| name.as_deref() == Some(*known));
    match (name, &frame.data) {
        (Some(name), Some(data)) => Frame::named(name, data),
        _ => frame.data_only(),
    }
}

fn bare(kind: ChunkKind) -> Chunk {
    Chunk { kind, model: None, usage: None, finished_choices: 0 }
}

fn content_if(has_content: bool) -> ChunkKind {
    if has_content { ChunkKind::Content } else { ChunkKind::StartUp }
}

#[derive(Deserialize)]
struct WireEvent {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    message: Option<WireMessage>,
    #[serde(default)]
    content_block: Option<WireBlock>,
    #[serde(default)]
    delta: Option<WireDelta>,
    #[serde(default)]
    usage: Option<Value>,
    #[serde(default)]
    error: Presence,
}

#[derive(Deserialize)]
struct WireMessage {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct WireBlock {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    text: Presence,
    #[serde(default)]
    thinking: Presence,
}

impl WireBlock {
    /// A call of a tool, encrypted reasoning and results of the provider's own tools are content when they begin; text and
    /// reasoning begin empty.
    fn has_content(&self) -> bool {
        !matches!(self.kind.as_deref(), Some("text" | "thinking")) || self.text.0 || self.thinking.0
    }
}

#[derive(Deserialize)]
struct WireDelta {
    #[serde(default)]
    text: Presence,
    #[serde(default)]
    thinking: Presence,
    #[serde(default)]
    partial_json: Presence,
    #[serde(default)]
    signature: Presence,
    #[serde(default)]
    citation: Presence,
    #[serde(default)]
    stop_reason: Presence,
}

impl WireDelta {
    fn has_content(&self) -> bool {
        self.text.0 || self.thinking.0 || self.partial_json.0 || self.signature.0 || self.citation.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sse::Decoder, usage::Usage};

    fn frame(data: &str) -> Frame {
        Frame::named("x", data.as_bytes())
    }

    fn kind(data: &str) -> ChunkKind {
        EventReader::default().read(&frame(data)).kind
    }

    #[test]
    fn events_are_classified() {
        for (expected, data) in [
            (ChunkKind::StartUp, r#"{"type":"message_start","message":{"id":"msg_1","content":[]}}"#),
            (
                ChunkKind::StartUp,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            ),
            (
                ChunkKind::StartUp,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            ),
            (
                ChunkKind::Content,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#,
            ),
            (
                ChunkKind::Content,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x"}}"#,
            ),
            (
                ChunkKind::Content,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            ),
            (
                ChunkKind::Content,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"t"}}"#,
            ),
            (
                ChunkKind::Content,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
            ),
            (
                ChunkKind::Content,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a"}}"#,
            ),
            (
                ChunkKind::Content,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"a"}}"#,
            ),
            (
                ChunkKind::Content,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            ),
            (
                ChunkKind::StartUp,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            ),
            (ChunkKind::StartUp, r#"{"type":"content_block_stop","index":0}"#),
            (
                ChunkKind::Content,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#,
            ),
            (ChunkKind::UsageOnly, r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":3}}"#),
            (ChunkKind::Done, r#"{"type":"message_stop"}"#),
            (ChunkKind::Silent, r#"{"type": "ping"}"#),
            (ChunkKind::Silent, ""),
            (ChunkKind::Foreign, r#"{"type":"message_continue"}"#),
            (ChunkKind::Foreign, r#"{"AccessKeyId":"AKIA"}"#),
            (ChunkKind::Foreign, r#"{"choices":[{"delta":{"content":"a"}}]}"#),
            (ChunkKind::Unreadable, r#"{"type":"message_start"}"#),
            (ChunkKind::Unreadable, "[DONE]"),
            (ChunkKind::Unreadable, r#"{"type":"content_block_delta","delta":7}"#),
        ] {
            assert_eq!(kind(data), expected, "{data}");
        }
    }

    #[test]
    fn usage_is_joined_from_start_and_end() {
        let mut reader = EventReader::default();
        let start = reader.read(&frame(
            r#"{"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":10,"cache_read_input_tokens":90,"output_tokens":1}}}"#,
        ));
        let at_start =
            Usage { input_tokens: 100, cached_input_tokens: 90, output_tokens: 1, ..Usage::default() };
        assert_eq!((start.model.as_deref(), start.usage), (Some("claude-x"), Some(at_start)));
        let end = reader.read(&frame(r#"{"type":"message_delta","delta":{"stop_reason":"max_tokens","stop_sequence":null},"usage":{"output_tokens":42}}"#));
        assert_eq!((end.usage, end.finished_choices), (Some(Usage { output_tokens: 42, ..at_start }), 1));
        // vLLM counts the input at the end only.
        let late = reader.read(&frame(
            r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":11,"output_tokens":43}}"#,
        ));
        assert_eq!(late.usage.unwrap().input_tokens, 101);
    }

    #[test]
    fn in_band_errors_are_recognized() {
        let data = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let ChunkKind::Error(error) = kind(data) else { panic!("{data}") };
        assert_eq!(
            (error.kind.as_deref(), error.message.as_deref()),
            (Some("overloaded_error"), Some("Overloaded"))
        );
    }

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
            ("event: secret\ndata: {\"type\":\"secret\"}\n\n", "data: {\"type\":\"secret\"}\n\n"),
            (": secret\n\n", ":\n\n"),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(raw.as_bytes());
            let frame = decoder.next_frame().unwrap().unwrap();
            assert_eq!(named_data_only(frame).raw, expected);
        }
    }
}
