//! Writes a stream of chat completion chunks.

use std::collections::BTreeMap;

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    reasoning::Detail,
    wire::{self, WireUsage},
};
use crate::{
    translate::{
        conversation::Reasoning,
        reply::{Delta, WriterOptions},
    },
    usage::Usage,
};

/// Longest reasoning that is kept until its signature comes, in bytes. Clients need both in one piece to send them back;
/// a longer one is delivered without its signature.
const MAX_SIGNED: usize = 1024 * 1024;

/// Writes the events of one stream.
#[derive(Debug)]
pub struct StreamWriter {
    include_usage: bool,
    id: String,
    model: String,
    created: u64,
    usage: Option<Usage>,
    choices: BTreeMap<u64, Blocks>,
}

/// The reasoning of a choice that is not signed yet.
#[derive(Debug, Default)]
struct Blocks {
    count: u64,
    text: String,
    too_long: bool,
}

impl Blocks {
    fn keep(&mut self, text: &str) {
        if self.text.len().saturating_add(text.len()) > MAX_SIGNED {
            self.too_long = true;
            self.text = String::new();
        } else if !self.too_long {
            self.text.push_str(text);
        }
    }
}

#[derive(Serialize)]
struct Chunk<'a, D> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: &'a [ChunkChoice<'a, D>],
    /// `null` until the last event, where the caller asked for usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Option<WireUsage>>,
}

#[derive(Serialize)]
struct ChunkChoice<'a, D> {
    index: u64,
    delta: D,
    logprobs: Option<&'a Value>,
    finish_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

#[derive(Default, Serialize)]
struct TextDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
}

impl StreamWriter {
    /// A writer at the start of a stream.
    pub fn new(options: &WriterOptions) -> Self {
        Self {
            include_usage: options.include_usage,
            id: wire::UNKNOWN_ID.to_owned(),
            model: String::new(),
            created: options.now,
            usage: None,
            choices: BTreeMap::new(),
        }
    }

    /// The events of the next delta: none, one, or two where a choice begins.
    pub fn write(&mut self, delta: &Delta) -> Bytes {
        let mut out = BytesMut::new();
        match delta {
            Delta::Start { id, model, created } => {
                if let Some(id) = id {
                    self.id.clone_from(id);
                }
                if let Some(model) = model {
                    self.model.clone_from(model);
                }
                self.created = created.unwrap_or(self.created);
            }
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Text { choice, text, logprobs } => {
                let delta = TextDelta { content: Some(text), ..TextDelta::default() };
                self.begin(*choice, &mut out);
                self.chunk(&mut out, *choice, delta, logprobs.as_ref());
            }
            Delta::Refusal { choice, text } => {
                let delta = TextDelta { refusal: Some(text), ..TextDelta::default() };
                self.begin(*choice, &mut out);
                self.chunk(&mut out, *choice, delta, None);
            }
            Delta::Reasoning { choice, text } => {
                let delta = TextDelta { reasoning_content: Some(text), ..TextDelta::default() };
                let blocks = self.begin(*choice, &mut out);
                blocks.keep(text);
                self.chunk(&mut out, *choice, delta, None);
            }
            Delta::ReasoningSignature { choice, signature } => {
                let blocks = self.begin(*choice, &mut out);
                let text = std::mem::take(&mut blocks.text);
                if !std::mem::take(&mut blocks.too_long) {
                    let block = Reasoning { text, signature: Some(signature.clone()), encrypted: None };
                    self.detail(&mut out, *choice, &block);
                }
            }
            Delta::EncryptedReasoning { choice, data } => {
                self.begin(*choice, &mut out);
                let block = Reasoning { encrypted: Some(data.clone()), ..Reasoning::default() };
                self.detail(&mut out, *choice, &block);
            }
            Delta::ToolCall { choice, call, id, name } => {
                self.begin(*choice, &mut out);
                let function = json!({ "name": name, "arguments": "" });
                let call = json!({ "index": call, "id": id, "type": "function", "function": function });
                self.chunk(&mut out, *choice, json!({ "tool_calls": [call] }), None);
            }
            Delta::ToolArguments { choice, call, json } => {
                self.begin(*choice, &mut out);
                let call = json!({ "index": call, "function": { "arguments": json } });
                self.chunk(&mut out, *choice, json!({ "tool_calls": [call] }), None);
            }
            Delta::Finish { choice, finish } => {
                self.begin(*choice, &mut out);
                let last = ChunkChoice {
                    index: *choice,
                    delta: TextDelta::default(),
                    logprobs: None,
                    finish_reason: Some(wire::finish_reason(finish)),
                    stop_reason: wire::stop_reason(finish),
                };
                self.event(&mut out, &[last], None);
            }
        }
        out.freeze()
    }

    /// The end of a stream that is complete.
    pub fn finish(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(usage) = self.usage.filter(|_| self.include_usage) {
            self.event::<()>(&mut out, &[], Some(usage));
        }
        out.put_slice(b"data: [DONE]\n\n");
        out.freeze()
    }

    /// Writes the role before anything else of a choice.
    fn begin(&mut self, choice: u64, out: &mut BytesMut) -> &mut Blocks {
        if !self.choices.contains_key(&choice) {
            let delta = TextDelta { role: Some("assistant"), content: Some(""), ..TextDelta::default() };
            self.chunk(out, choice, delta, None);
        }
        self.choices.entry(choice).or_default()
    }

    fn detail(&mut self, out: &mut BytesMut, choice: u64, block: &Reasoning) {
        let blocks = self.choices.entry(choice).or_default();
        let index = blocks.count;
        blocks.count = blocks.count.saturating_add(1);
        if let Some(detail) = Detail::of(block, index) {
            self.chunk(out, choice, json!({ "reasoning_details": [detail] }), None);
        }
    }

    fn chunk<D: Serialize>(&self, out: &mut BytesMut, index: u64, delta: D, logprobs: Option<&Value>) {
        let choice = ChunkChoice { index, delta, logprobs, finish_reason: None, stop_reason: None };
        self.event(out, &[choice], None);
    }

    fn event<D: Serialize>(&self, out: &mut BytesMut, choices: &[ChunkChoice<'_, D>], usage: Option<Usage>) {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            choices,
            usage: self.include_usage.then(|| usage.map(WireUsage::from)),
        };
        out.put_slice(b"data: ");
        // Writing to memory does not fail, and these types have no map with keys that are not strings.
        let _ = serde_json::to_writer((&mut *out).writer(), &chunk);
        out.put_slice(b"\n\n");
    }
}
