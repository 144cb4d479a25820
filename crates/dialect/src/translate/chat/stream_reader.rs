//! Reads a stream of chat completion chunks.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{
    reasoning::{self, Detail},
    wire,
};
use crate::{
    lenient,
    openai::usage::ReportedUsage,
    sse::Frame,
    translate::{
        conversation::Part,
        reply::{Delta, bounded_name},
    },
};

/// Most choices and calls of one choice that are read, far above what any request asks for: what is beyond them is not read, so
/// that a provider cannot make the reader grow.
const MAX_CHOICES: usize = 128;
const MAX_CALLS: u64 = 256;

/// Reads the events of one stream. An event that is no chunk has no deltas.
#[derive(Debug, Default)]
pub struct StreamReader {
    started: bool,
    id: Option<String>,
    choices: BTreeMap<u64, Calls>,
    /// Whether a call came in the older form, `function_call`.
    older_form: bool,
}

/// The calls of one choice.
#[derive(Debug, Default)]
struct Calls {
    /// How many there are.
    count: u64,
    /// The last call at each index that the server uses. Some servers give all calls the index 0 and different ids.
    by_index: BTreeMap<u64, Call>,
    /// The index of the call that is read now.
    current: Option<u64>,
    /// Whether there were too many, so that no more are read.
    full: bool,
    /// Whether the choice has ended. Some servers send a call after that.
    finished: bool,
    /// The reasoning that is not signed yet.
    unsigned: Digest,
}

/// The length and the hash (FNV-1a) of a text that comes in pieces, to recognize it when it comes again whole.
#[derive(Debug, Default, PartialEq, Eq)]
struct Digest {
    length: usize,
    hash: u64,
}

impl Digest {
    fn push(&mut self, text: &str) {
        self.length = self.length.saturating_add(text.len());
        let add = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        self.hash = text.bytes().fold(self.hash, add);
    }

    fn is_of(&self, text: &str) -> bool {
        let mut other = Self::default();
        other.push(text);
        *self == other
    }
}

#[derive(Debug)]
struct Call {
    number: u64,
    id: Option<String>,
    /// The name so far; it is complete when arguments come, or another call, or the end.
    name: String,
    announced: bool,
}

#[derive(Deserialize)]
struct WireChunk {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    created: Value,
    #[serde(default)]
    choices: Option<Vec<WireChoice>>,
    #[serde(default)]
    usage: Option<ReportedUsage>,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Option<WireDelta>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    stop_reason: Option<Value>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Default, Deserialize)]
struct WireDelta {
    #[serde(default)]
    content: Value,
    #[serde(default)]
    refusal: Option<String>,
    #[serde(default)]
    reasoning_content: Option<String>,
    #[serde(default)]
    reasoning: Value,
    #[serde(default)]
    reasoning_details: Option<Value>,
    #[serde(default)]
    tool_calls: Option<Vec<WireCall>>,
    #[serde(default)]
    function_call: Option<WireFunction>,
}

#[derive(Deserialize)]
struct WireCall {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    function: WireFunction,
}

#[derive(Default, Deserialize)]
struct WireFunction {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Value,
}

impl StreamReader {
    /// A reader at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// The deltas of the next event.
    pub fn read(&mut self, frame: &Frame) -> Vec<Delta> {
        let Some(data) = frame.data.as_deref() else { return Vec::new() };
        let Some(chunk) = lenient::object::<WireChunk>(data) else { return Vec::new() };
        let choices = chunk.choices.unwrap_or_default();
        let usage = chunk.usage.and_then(|usage| usage.0);
        let mut deltas = Vec::new();
        // Azure's first event has filter results and no id yet.
        if !(self.started || choices.is_empty() && usage.is_none()) {
            self.started = true;
            self.id = chunk.id.filter(|id| !id.is_empty()).map(bounded_name);
            deltas.push(Delta::Start {
                id: self.id.clone(),
                model: chunk.model.filter(|model| !model.is_empty()).map(bounded_name),
                created: chunk.created.as_u64(),
            });
        }
        for choice in choices {
            self.read_choice(choice, &mut deltas);
        }
        deltas.extend(usage.map(Delta::Usage));
        deltas
    }

    /// Announces the calls whose names may not be complete; false where a caller who got the events as they came has what deltas
    /// cannot express.
    pub fn announce(&mut self, deltas: &mut Vec<Delta>) -> bool {
        for (choice, calls) in &mut self.choices {
            calls.announce_current(*choice, self.id.as_deref(), deltas);
        }
        let named = |call: &Call| !call.name.is_empty();
        !self.older_form && self.choices.values().all(|calls| calls.by_index.values().all(named))
    }

    /// Whether a call has begun whose name may not be complete.
    pub fn holds_a_call(&self) -> bool {
        let current = |calls: &Calls| calls.by_index.get(&calls.current?).map(|call| !call.announced);
        self.choices.values().any(|calls| current(calls).unwrap_or(false))
    }

    fn read_choice(&mut self, wire: WireChoice, deltas: &mut Vec<Delta>) {
        let choice = wire.index;
        if self.choices.len() >= MAX_CHOICES && !self.choices.contains_key(&choice) {
            return;
        }
        let calls = self.choices.entry(choice).or_default();
        let delta = wire.delta.unwrap_or_default();
        let text = delta.reasoning_content.or_else(|| delta.reasoning.as_str().map(str::to_owned));
        let text = text.filter(|text| !text.is_empty());
        let has_text = text.is_some();
        if let Some(text) = text {
            calls.unsigned.push(&text);
            deltas.push(Delta::Reasoning { choice, text });
        }
        for detail in reasoning::details(delta.reasoning_details) {
            calls.read_detail(choice, detail, has_text, deltas);
        }
        let mut logprobs = wire.logprobs.filter(|logprobs| !logprobs.is_null());
        for part in reasoning::content_parts(&delta.content) {
            match part {
                Part::Text(text) => deltas.push(Delta::Text { choice, text, logprobs: logprobs.take() }),
                Part::Reasoning(block) => deltas.push(Delta::Reasoning { choice, text: block.text }),
                _ => {}
            }
        }
        if logprobs.is_some() {
            deltas.push(Delta::Text { choice, text: String::new(), logprobs });
        }
        let refusal = delta.refusal.filter(|text| !text.is_empty());
        deltas.extend(refusal.map(|text| Delta::Refusal { choice, text }));
        self.older_form |= delta.function_call.is_some();
        let older = delta.function_call.map(|function| WireCall { index: Some(0), id: None, function });
        for call in delta.tool_calls.into_iter().flatten().chain(older) {
            calls.read(choice, call, self.id.as_deref(), deltas);
        }
        let reason = wire.finish_reason.filter(|reason| !reason.is_empty());
        calls.finished |= reason.is_some();
        // Nothing else will complete its name.
        if calls.finished {
            calls.announce_current(choice, self.id.as_deref(), deltas);
        }
        if let Some(reason) = reason {
            let finish = wire::read_finish(&reason, wire.stop_reason.as_ref(), calls.count > 0);
            deltas.push(Delta::Finish { choice, finish });
        }
    }
}

impl StreamReader {
    /// Whether the stream has more calls than are read.
    pub fn exceeds_bounds(&self) -> bool {
        self.choices.values().any(|calls| calls.full)
    }
}

impl Calls {
    fn read_detail(&mut self, choice: u64, detail: Detail, has_text: bool, deltas: &mut Vec<Delta>) {
        let block = detail.block();
        if let Some(data) = block.encrypted {
            deltas.push(Delta::EncryptedReasoning { choice, data });
            return;
        }
        // The signature comes with the whole text that it signs, or with its last piece.
        let is_repeated = block.signature.is_some() && self.unsigned.is_of(&block.text);
        if !has_text && !is_repeated && !block.text.is_empty() {
            self.unsigned.push(&block.text);
            deltas.push(Delta::Reasoning { choice, text: block.text });
        }
        if let Some(signature) = block.signature {
            self.unsigned = Digest::default();
            deltas.push(Delta::ReasoningSignature { choice, signature });
        }
    }

    fn read(&mut self, choice: u64, wire: WireCall, answer: Option<&str>, deltas: &mut Vec<Delta>) {
        let id = wire.id.filter(|id| !id.is_empty()).map(bounded_name);
        let name = wire.function.name.filter(|name| !name.is_empty());
        let arguments = match wire.function.arguments {
            Value::String(text) => text,
            Value::Null => String::new(),
            value => value.to_string(),
        };
        // Without an index, a new id with a name begins a call, and everything else continues the last one.
        let index = wire.index.or(self.current).unwrap_or(0);
        let open = self.by_index.get(&index);
        let begins =
            open.is_none_or(|open| name.is_some() && id.is_some() && open.id.is_some() && open.id != id);
        // What follows could continue the wrong call.
        self.full |= begins && self.count >= MAX_CALLS;
        if self.full {
            return;
        }
        if begins || self.current != Some(index) {
            self.announce_current(choice, answer, deltas);
        }
        self.current = Some(index);
        if begins {
            let call = Call { number: self.count, id: None, name: String::new(), announced: false };
            self.count = self.count.saturating_add(1);
            self.by_index.insert(index, call);
        }
        let Some(call) = self.by_index.get_mut(&index) else { return };
        if call.id.is_none() {
            call.id = id;
        }
        // Some servers repeat the whole name in each event.
        if let Some(name) = name
            && !call.announced
            && call.name != name
        {
            call.name = bounded_name(format!("{}{name}", call.name));
        }
        if !arguments.is_empty() {
            call.announce(choice, answer, deltas);
            deltas.push(Delta::ToolArguments { choice, call: call.number, json: arguments });
        }
    }

    fn announce_current(&mut self, choice: u64, answer: Option<&str>, deltas: &mut Vec<Delta>) {
        if let Some(call) = self.current.and_then(|index| self.by_index.get_mut(&index)) {
            call.announce(choice, answer, deltas);
        }
    }
}

impl Call {
    fn announce(&mut self, choice: u64, answer: Option<&str>, deltas: &mut Vec<Delta>) {
        if self.announced {
            return;
        }
        self.announced = true;
        let derived = || wire::derived_call_id(answer, choice, self.number);
        let id = self.id.clone().unwrap_or_else(derived);
        deltas.push(Delta::ToolCall { choice, call: self.number, id, name: self.name.clone() });
    }
}
