//! Writes the events of a stream.
//!
//! Other dialects report usage at the end, so `message_start` has counts of 0, and `message_delta` all of them: Anthropic's
//! clients take the later ones. Only the first choice is written; a translated request has no more.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::reply;
use crate::{
    sse::Frame,
    translate::{
        call_queue::CallQueue,
        reply::{Delta, Finish, WriterOptions},
    },
    usage::Usage,
};

/// Writes one stream.
#[derive(Debug, Default)]
pub struct StreamWriter {
    events: BytesMut,
    has_begun: bool,
    /// The kind of the block that is open.
    open: Option<BlockKind>,
    /// The index of the open block, or of the next one.
    index: u64,
    calls: CallQueue,
    calls_tools: bool,
    finish: Option<Finish>,
    usage: Usage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlockKind {
    Text,
    Thinking,
    ToolUse,
}

impl StreamWriter {
    /// A writer of a new stream. Its end always has usage.
    pub fn new(_: &WriterOptions) -> Self {
        Self::default()
    }

    /// Writes a delta: zero or more events.
    pub fn write(&mut self, delta: &Delta) -> Bytes {
        match delta {
            Delta::Start { id, model, .. } => self.begin(id.as_deref(), model.as_deref()),
            Delta::Text { choice: 0, text, .. } | Delta::Refusal { choice: 0, text } if !text.is_empty() => {
                self.open(BlockKind::Text, || json!({ "type": "text", "text": "" }));
                self.delta(&json!({ "type": "text_delta", "text": text }));
            }
            Delta::Reasoning { choice: 0, text } if !text.is_empty() => {
                self.open_thinking();
                self.delta(&json!({ "type": "thinking_delta", "thinking": text }));
            }
            Delta::ReasoningSignature { choice: 0, signature } => {
                self.open_thinking();
                self.delta(&json!({ "type": "signature_delta", "signature": signature }));
                // Later reasoning is another block, with a signature of its own.
                self.close();
            }
            Delta::EncryptedReasoning { choice: 0, data } => {
                self.end_calls();
                self.close();
                self.start_block(&json!({ "type": "redacted_thinking", "data": data }));
                self.stop_block();
            }
            Delta::ToolCall { choice: 0, call, id, name } => {
                self.calls_tools = true;
                self.calls.push(*call, id.clone(), name.clone());
                self.write_calls();
            }
            Delta::ToolArguments { choice: 0, call, json } => {
                self.calls.extend(*call, json);
                self.write_calls();
            }
            Delta::Finish { choice: 0, finish } => self.finish = Some(finish.clone()),
            Delta::Usage(usage) => self.usage = *usage,
            Delta::Text { .. }
            | Delta::Refusal { .. }
            | Delta::Reasoning { .. }
            | Delta::ReasoningSignature { .. }
            | Delta::EncryptedReasoning { .. }
            | Delta::ToolCall { .. }
            | Delta::ToolArguments { .. }
            | Delta::Finish { .. } => {}
        }
        self.events.split().freeze()
    }

    /// Writes the end of a stream that is complete.
    pub fn finish(&mut self) -> Bytes {
        self.begin(None, None);
        self.end_calls();
        self.close();
        let (stop_reason, stop_sequence) = reply::stop_reason(self.finish.as_ref(), self.calls_tools);
        let delta = json!({ "stop_reason": stop_reason, "stop_sequence": stop_sequence });
        let usage = reply::usage(&self.usage);
        self.event("message_delta", &json!({ "type": "message_delta", "delta": delta, "usage": usage }));
        self.event("message_stop", &json!({ "type": "message_stop" }));
        self.events.split().freeze()
    }

    fn event(&mut self, name: &'static str, data: &Value) {
        self.events.extend_from_slice(&Frame::named(name, data.to_string().as_bytes()).raw);
    }

    fn begin(&mut self, id: Option<&str>, model: Option<&str>) {
        if std::mem::replace(&mut self.has_begun, true) {
            return;
        }
        let message = json!({
            "id": reply::message_id(id),
            "type": "message",
            "role": "assistant",
            "model": model.unwrap_or_default(),
            "content": [],
            "stop_reason": null,
            "stop_sequence": null,
            "usage": reply::usage(&self.usage),
        });
        self.event("message_start", &json!({ "type": "message_start", "message": message }));
    }

    fn open(&mut self, kind: BlockKind, block: impl Fn() -> Value) {
        if self.open == Some(kind) {
            return;
        }
        self.end_calls();
        self.close();
        self.start_block(&block());
        self.open = Some(kind);
    }

    fn open_thinking(&mut self) {
        self.open(BlockKind::Thinking, || json!({ "type": "thinking", "thinking": "", "signature": "" }));
    }

    fn start_block(&mut self, block: &Value) {
        self.begin(None, None);
        let data = json!({ "type": "content_block_start", "index": self.index, "content_block": block });
        self.event("content_block_start", &data);
    }

    fn delta(&mut self, delta: &Value) {
        let data = json!({ "type": "content_block_delta", "index": self.index, "delta": delta });
        self.event("content_block_delta", &data);
    }

    fn close(&mut self) {
        if self.open.take().is_some() {
            self.stop_block();
        }
    }

    fn stop_block(&mut self) {
        self.event("content_block_stop", &json!({ "type": "content_block_stop", "index": self.index }));
        self.index = self.index.saturating_add(1);
    }

    /// Writes what has arrived of the call whose turn it is, and of the next ones where it is complete.
    fn write_calls(&mut self) {
        loop {
            self.write_current_call();
            if !self.calls.next(false) {
                return;
            }
            self.close();
        }
    }

    /// Writes all that has arrived of all calls, and ends them.
    fn end_calls(&mut self) {
        while !self.calls.is_empty() {
            self.write_current_call();
            self.calls.next(true);
            self.close();
        }
    }

    fn write_current_call(&mut self) {
        let Some(call) = self.calls.current() else { return };
        let json = std::mem::take(&mut call.unwritten);
        if !std::mem::replace(&mut call.begun, true) {
            let block = json!({ "type": "tool_use", "id": call.id, "name": call.name, "input": {} });
            self.close();
            self.start_block(&block);
            self.open = Some(BlockKind::ToolUse);
        }
        if !json.is_empty() {
            self.delta(&json!({ "type": "input_json_delta", "partial_json": json }));
        }
    }
}
