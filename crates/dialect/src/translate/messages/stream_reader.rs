//! Reads the events of a stream.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::reply;
use crate::{
    anthropic::count::Counts,
    lenient,
    sse::Frame,
    translate::reply::{Delta, bounded_name},
};

/// Most calls of tools that are open at once. Servers write one block after the other.
const MAX_OPEN_CALLS: usize = 64;

/// Reads the events of one stream.
#[derive(Debug, Default)]
pub struct StreamReader {
    counts: Counts,
    /// How many calls of tools have begun.
    calls: u64,
    /// The calls that have not ended, by the index of their block.
    open: BTreeMap<u64, OpenCall>,
    between_blocks: bool,
    /// Whether more calls were open at once than are read.
    too_many_open: bool,
}

#[derive(Debug)]
struct OpenCall {
    call: u64,
    has_arguments: bool,
}

#[derive(Deserialize)]
struct WireEvent {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    index: u64,
    #[serde(default)]
    message: Option<WireMessage>,
    #[serde(default)]
    content_block: Option<WireBlock>,
    #[serde(default)]
    delta: Option<WireDelta>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct WireMessage {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct WireBlock {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    thinking: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    input: Map<String, Value>,
}

#[derive(Deserialize)]
struct WireDelta {
    #[serde(default)]
    text: String,
    #[serde(default)]
    thinking: String,
    #[serde(default)]
    signature: String,
    #[serde(default)]
    partial_json: String,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
}

impl StreamReader {
    /// A reader of a new stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads an event. Events that add nothing to the answer, such as `ping`, give no delta.
    pub fn read(&mut self, frame: &Frame) -> Vec<Delta> {
        let event = frame.data.as_deref().and_then(lenient::object::<WireEvent>);
        let mut deltas = Vec::new();
        let Some(event) = event else { return deltas };
        match event.kind.as_str() {
            "message_start" => {
                let Some(message) = event.message else { return deltas };
                deltas.push(Delta::Start {
                    id: message.id.map(bounded_name),
                    model: message.model.map(bounded_name),
                    created: None,
                });
                deltas.extend(self.counts.take(message.usage).map(Delta::Usage));
            }
            "content_block_start" => {
                if let Some(block) = event.content_block {
                    self.begin(event.index, block, &mut deltas);
                }
            }
            "content_block_delta" => {
                if let Some(delta) = event.delta {
                    let open = self.open.get_mut(&event.index).filter(|_| !delta.partial_json.is_empty());
                    if let Some(open) = open {
                        open.has_arguments = true;
                        deltas.push(Delta::ToolArguments {
                            choice: 0,
                            call: open.call,
                            json: delta.partial_json,
                        });
                    }
                    deltas.extend(written(delta.text, delta.thinking, delta.signature));
                }
            }
            "content_block_stop" => {
                // Other dialects have no call without arguments.
                let ended = self.open.remove(&event.index).filter(|ended| !ended.has_arguments);
                deltas.extend(ended.map(|ended| Delta::ToolArguments {
                    choice: 0,
                    call: ended.call,
                    json: "{}".to_owned(),
                }));
            }
            "message_delta" => {
                if let Some(delta) = event.delta
                    && let Some(reason) = delta.stop_reason
                {
                    let finish = reply::finish(&reason, delta.stop_sequence);
                    deltas.push(Delta::Finish { choice: 0, finish });
                }
                deltas.extend(self.counts.take(event.usage).map(Delta::Usage));
            }
            _ => {}
        }
        match event.kind.as_str() {
            // A writer has a signed or encrypted block behind it, and the caller's is still open.
            "content_block_start" | "content_block_delta" => {
                let closes = |delta| {
                    matches!(delta, &Delta::ReasoningSignature { .. } | &Delta::EncryptedReasoning { .. })
                };
                self.between_blocks = deltas.last().is_none_or(closes);
            }
            "content_block_stop" => self.between_blocks = true,
            "message_delta" => self.between_blocks &= deltas.is_empty(),
            _ => {}
        }
        deltas
    }

    /// Whether a block has ended, or begun, without an effect on the answer so far: a caller who got the events as they came knows
    /// more of the blocks than the deltas show.
    pub fn is_between_blocks(&self) -> bool {
        self.between_blocks
    }

    /// Whether the stream has more calls open than are read.
    pub fn exceeds_bounds(&self) -> bool {
        self.too_many_open
    }

    fn begin(&mut self, index: u64, block: WireBlock, deltas: &mut Vec<Delta>) {
        match block.kind.as_str() {
            "tool_use" => {
                let call = self.calls;
                self.calls = call.saturating_add(1);
                deltas.push(Delta::ToolCall { choice: 0, call, id: block.id, name: block.name });
                // Some servers write the arguments at once, in place of the empty object.
                let has_arguments = !block.input.is_empty();
                if has_arguments {
                    let json = Value::Object(block.input).to_string();
                    deltas.push(Delta::ToolArguments { choice: 0, call, json });
                }
                if self.open.len() < MAX_OPEN_CALLS {
                    self.open.insert(index, OpenCall { call, has_arguments });
                } else {
                    self.too_many_open = true;
                }
            }
            "redacted_thinking" => deltas.push(Delta::EncryptedReasoning { choice: 0, data: block.data }),
            _ => deltas.extend(written(block.text, block.thinking, block.signature)),
        }
    }
}

/// The deltas of the texts that are not empty.
fn written(text: String, thinking: String, signature: String) -> impl Iterator<Item = Delta> {
    let present = |text: String| Some(text).filter(|text| !text.is_empty());
    let text = present(text).map(|text| Delta::Text { choice: 0, text, logprobs: None });
    let thinking = present(thinking).map(|text| Delta::Reasoning { choice: 0, text });
    let signature = present(signature).map(|signature| Delta::ReasoningSignature { choice: 0, signature });
    [text, thinking, signature].into_iter().flatten()
}
