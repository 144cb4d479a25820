//! Classifies the events of a stream: whether there is content, which model answers, how many tokens it used, how the answer
//! ends. It keeps no text.

use serde::Deserialize;
use serde_json::Value;

use super::count::Counts;
use crate::{
    error::UpstreamError,
    event::{Event, EventMeaning},
    lenient,
    presence::Presence,
    sse::Frame,
};

/// Reads the events of one stream, whose usage arrives in two of them.
#[derive(Debug, Clone, Default)]
pub struct EventReader {
    counts: Counts,
}

impl EventReader {
    /// Classifies a frame. An event of a type that is not known is [`EventMeaning::Foreign`].
    pub fn read(&mut self, frame: &Frame) -> Event {
        let Some(data) = frame.data.as_deref() else { return bare(EventMeaning::Silent) };
        let text = data.trim_ascii();
        if text.is_empty() {
            return bare(EventMeaning::Silent);
        }
        let Some(wire) = lenient::object::<WireEvent>(text) else { return bare(EventMeaning::Unreadable) };
        let kind = wire.kind.as_deref().unwrap_or_default();
        if wire.error.0 || kind == "error" || frame.event.as_deref() == Some(b"error") {
            return bare(EventMeaning::Error(UpstreamError::read(text)));
        }
        match kind {
            "message_start" => {
                let Some(message) = wire.message else { return bare(EventMeaning::Unreadable) };
                let usage = self.counts.take(message.usage);
                Event { model: message.model, usage, ..bare(EventMeaning::StartUp) }
            }
            "content_block_start" => {
                bare(content_if(wire.content_block.is_some_and(|block| block.has_content())))
            }
            "content_block_delta" => bare(content_if(wire.delta.is_some_and(|delta| delta.has_content()))),
            "content_block_stop" => bare(EventMeaning::StartUp),
            "message_delta" => {
                let usage = self.counts.take(wire.usage);
                let finished = wire.delta.is_some_and(|delta| delta.stop_reason.0);
                let kind = match usage {
                    _ if finished => EventMeaning::Content,
                    Some(_) => EventMeaning::UsageOnly,
                    None => EventMeaning::StartUp,
                };
                Event { meaning: kind, model: None, usage, finished: usize::from(finished) }
            }
            "message_stop" => bare(EventMeaning::Done),
            "ping" => bare(EventMeaning::Silent),
            _ => bare(EventMeaning::Foreign),
        }
    }
}

const fn bare(meaning: EventMeaning) -> Event {
    Event::bare(meaning)
}

fn content_if(has_content: bool) -> EventMeaning {
    if has_content { EventMeaning::Content } else { EventMeaning::StartUp }
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
    use crate::usage::Usage;

    fn frame(data: &str) -> Frame {
        Frame::named("x", data.as_bytes())
    }

    fn kind(data: &str) -> EventMeaning {
        EventReader::default().read(&frame(data)).meaning
    }

    #[test]
    fn events_are_classified() {
        for (expected, data) in [
            (EventMeaning::StartUp, r#"{"type":"message_start","message":{"id":"msg_1","content":[]}}"#),
            (
                EventMeaning::StartUp,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            ),
            (
                EventMeaning::StartUp,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
            ),
            (
                EventMeaning::Content,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#,
            ),
            (
                EventMeaning::Content,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"redacted_thinking","data":"x"}}"#,
            ),
            (
                EventMeaning::Content,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
            ),
            (
                EventMeaning::Content,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"t"}}"#,
            ),
            (
                EventMeaning::Content,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a"}}"#,
            ),
            (
                EventMeaning::Content,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"a"}}"#,
            ),
            (
                EventMeaning::Content,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"a"}}"#,
            ),
            (
                EventMeaning::Content,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            ),
            (
                EventMeaning::StartUp,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}"#,
            ),
            (EventMeaning::StartUp, r#"{"type":"content_block_stop","index":0}"#),
            (
                EventMeaning::Content,
                r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}"#,
            ),
            (EventMeaning::UsageOnly, r#"{"type":"message_delta","delta":{},"usage":{"output_tokens":3}}"#),
            (EventMeaning::Done, r#"{"type":"message_stop"}"#),
            (EventMeaning::Silent, r#"{"type": "ping"}"#),
            (EventMeaning::Silent, ""),
            (EventMeaning::Foreign, r#"{"type":"message_continue"}"#),
            (EventMeaning::Foreign, r#"{"AccessKeyId":"AKIA"}"#),
            (EventMeaning::Foreign, r#"{"choices":[{"delta":{"content":"a"}}]}"#),
            (EventMeaning::Unreadable, r#"{"type":"message_start"}"#),
            (EventMeaning::Unreadable, "[DONE]"),
            (EventMeaning::Unreadable, r#"{"type":"content_block_delta","delta":7}"#),
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
        assert_eq!((end.usage, end.finished), (Some(Usage { output_tokens: 42, ..at_start }), 1));
        // vLLM counts the input at the end only.
        let late = reader.read(&frame(
            r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":11,"output_tokens":43}}"#,
        ));
        assert_eq!(late.usage.unwrap().input_tokens, 101);
    }

    #[test]
    fn in_band_errors_are_recognized() {
        let data = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
        let EventMeaning::Error(error) = kind(data) else { panic!("{data}") };
        assert_eq!(
            (error.kind.as_deref(), error.message.as_deref()),
            (Some("overloaded_error"), Some("Overloaded"))
        );
    }
}
