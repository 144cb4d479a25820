//! Writes a stream: the complete sequence of events that OpenAI's clients accumulate, with the whole answer again in the last.

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::{
    items::{self, Status},
    reply::error_event,
    response::{End, Envelope},
};
use crate::{
    translate::{
        call_queue::CallQueue,
        conversation::{CallKind, Reasoning, ToolCall},
        reply::{Delta, Finish, WriterOptions},
    },
    usage::Usage,
};

/// Most bytes of an answer, as JSON, that are kept for its last event. That event has to fit into one of
/// [`DEFAULT_MAX_EVENT`](crate::sse::DEFAULT_MAX_EVENT) bytes beside the settings of the request.
const MAX_KEPT_BYTES: usize = 4 * 1024 * 1024;

/// What an item counts for, besides its text.
const ITEM_BYTES: usize = 512;

/// Writes the deltas of one answer as events.
#[derive(Debug)]
pub struct StreamWriter {
    options: WriterOptions,
    /// Known once the answer has begun.
    envelope: Option<Envelope>,
    sequence: u64,
    /// The items by index; null while an item is open.
    output: Vec<Value>,
    open: Open,
    usage: Option<Usage>,
    finish: Option<Finish>,
    kept_bytes: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Writing,
    /// The proper end is written.
    Ended,
    /// The answer is too large; its error event is written.
    Failed,
}

/// What is being written.
#[derive(Debug)]
enum Open {
    Nothing,
    Message(OpenMessage),
    Reasoning { index: usize, id: String, block: Reasoning },
    Calls(Box<OpenCalls>),
}

#[derive(Debug)]
struct OpenMessage {
    index: usize,
    id: String,
    /// The parts that have ended.
    content: Vec<Value>,
    part: Option<OpenPart>,
}

#[derive(Debug)]
struct OpenPart {
    is_refusal: bool,
    text: String,
    logprobs: Vec<Value>,
}

impl OpenPart {
    fn written(&self) -> Value {
        if self.is_refusal {
            items::refusal(&self.text)
        } else {
            items::text(&self.text, self.logprobs.clone())
        }
    }
}

/// Calls that have begun. Clients take an item's events for those of the item that was added last.
#[derive(Debug, Default)]
struct OpenCalls {
    queue: CallQueue,
    /// The item of the first one.
    written: Option<OpenCall>,
}

#[derive(Debug)]
struct OpenCall {
    index: usize,
    id: String,
    kind: CallKind,
    call: ToolCall,
}

impl StreamWriter {
    /// A writer for one answer.
    pub fn new(options: &WriterOptions) -> Self {
        Self {
            options: options.clone(),
            envelope: None,
            sequence: 0,
            output: Vec::new(),
            open: Open::Nothing,
            usage: None,
            finish: None,
            kept_bytes: 0,
            state: State::Writing,
        }
    }

    /// The events that a delta becomes. Choices but the first are left out: the API has one, and the reader asks for one.
    pub fn write(&mut self, delta: &Delta) -> Bytes {
        let mut out = BytesMut::new();
        if self.state != State::Writing {
            return out.freeze();
        }
        match delta {
            Delta::Start { id, model, created } => {
                self.start(id.as_deref(), model.as_deref(), *created, &mut out);
            }
            Delta::Usage(usage) => self.usage = Some(*usage),
            Delta::Finish { choice: 0, finish } => self.finish = Some(finish.clone()),
            Delta::Text { choice: 0, text, logprobs } if !text.is_empty() || logprobs.is_some() => {
                self.text(text, items::logprobs(logprobs.as_ref()), false, &mut out);
            }
            Delta::Refusal { choice: 0, text } if !text.is_empty() => {
                self.text(text, Vec::new(), true, &mut out);
            }
            Delta::Reasoning { choice: 0, text } if !text.is_empty() => self.reasoning(text, &mut out),
            Delta::ReasoningSignature { choice: 0, signature } => self.signature(signature, &mut out),
            Delta::EncryptedReasoning { choice: 0, data } => {
                let block = Reasoning { encrypted: Some(data.clone()), ..Reasoning::default() };
                self.keep_text(data);
                self.open_reasoning(block, &mut out);
                self.close(Status::Completed, &mut out);
            }
            Delta::ToolCall { choice: 0, call, id, name } => self.call(*call, id, name, &mut out),
            Delta::ToolArguments { choice: 0, call, json } => self.arguments(*call, json, &mut out),
            _ => {}
        }
        if self.kept_bytes > MAX_KEPT_BYTES {
            self.state = State::Failed;
            let message =
                "the answer is larger than 4 MiB, the most that a translated stream of responses has";
            return error_event(message, "upstream_error", "answer_too_large");
        }
        out.freeze()
    }

    /// The proper end of the stream. Only called once the provider's stream is complete.
    pub fn finish(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        if self.state != State::Writing {
            return out.freeze();
        }
        let end = End::of(self.finish.as_ref());
        let envelope = self.envelope(&mut out);
        self.close(if end == End::Completed { Status::Completed } else { Status::Incomplete }, &mut out);
        let response = envelope.ended(end, &self.output, self.usage);
        self.emit(&format!("response.{}", end.status()), json!({ "response": response }), &mut out);
        self.state = State::Ended;
        out.freeze()
    }

    /// Whether the answer was too large to go on. The last event that was written is an error.
    pub fn has_failed(&self) -> bool {
        self.state == State::Failed
    }

    fn start(&mut self, id: Option<&str>, model: Option<&str>, created: Option<u64>, out: &mut BytesMut) {
        if self.envelope.is_none() {
            let envelope = Envelope::new(id, model, created, &self.options);
            self.emit("response.created", json!({ "response": envelope.in_progress() }), out);
            self.emit("response.in_progress", json!({ "response": envelope.in_progress() }), out);
            self.envelope = Some(envelope);
        }
    }

    /// The envelope; the answer begins where no delta has begun it.
    fn envelope(&mut self, out: &mut BytesMut) -> Envelope {
        self.start(None, None, None, out);
        self.envelope.clone().unwrap_or_else(|| Envelope::new(None, None, None, &self.options))
    }

    fn keep(&mut self, bytes: usize) {
        self.kept_bytes = self.kept_bytes.saturating_add(bytes);
    }

    fn keep_text(&mut self, text: &str) {
        self.keep(written_bytes(text));
    }

    /// Writes one event, its type and number first.
    fn emit(&mut self, kind: &str, fields: Value, out: &mut BytesMut) {
        let mut event = json!({ "type": kind, "sequence_number": self.sequence });
        self.sequence = self.sequence.saturating_add(1);
        if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
            event.extend(fields);
        }
        out.extend_from_slice(format!("event: {kind}\ndata: {event}\n\n").as_bytes());
    }

    /// Opens the next item: its index and its id.
    fn next_item(&mut self, prefix: &str, out: &mut BytesMut) -> (usize, String) {
        let index = self.output.len();
        self.output.push(Value::Null);
        self.keep(ITEM_BYTES);
        (index, self.envelope(out).item_id(prefix, index))
    }

    fn added(&mut self, index: usize, item: &Value, out: &mut BytesMut) {
        self.emit("response.output_item.added", json!({ "output_index": index, "item": item }), out);
    }

    fn done(&mut self, index: usize, item: Value, out: &mut BytesMut) {
        self.emit("response.output_item.done", json!({ "output_index": index, "item": item }), out);
        if let Some(slot) = self.output.get_mut(index) {
            *slot = item;
        }
    }

    fn text(&mut self, text: &str, logprobs: Vec<Value>, is_refusal: bool, out: &mut BytesMut) {
        self.keep_text(text);
        self.keep(logprobs.len().saturating_mul(ITEM_BYTES));
        let mut message = match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Message(message) => message,
            other => {
                self.open = other;
                self.close(Status::Completed, out);
                let (index, id) = self.next_item("msg", out);
                self.added(index, &items::message(&id, Vec::new(), Status::InProgress), out);
                OpenMessage { index, id, content: Vec::new(), part: None }
            }
        };
        if message.part.as_ref().is_some_and(|part| part.is_refusal != is_refusal) {
            self.close_part(&mut message, out);
        }
        let place = json!({ "item_id": message.id, "output_index": message.index, "content_index": message.content.len() });
        if message.part.is_none() {
            let part = OpenPart { is_refusal, text: String::new(), logprobs: Vec::new() };
            self.emit("response.content_part.added", with(&place, json!({ "part": part.written() })), out);
            message.part = Some(part);
        }
        if let Some(part) = &mut message.part {
            part.text.push_str(text);
            part.logprobs.extend_from_slice(&logprobs);
        }
        let (kind, delta) = if is_refusal {
            ("response.refusal.delta", json!({ "delta": text }))
        } else {
            ("response.output_text.delta", json!({ "delta": text, "logprobs": logprobs }))
        };
        self.emit(kind, with(&place, delta), out);
        self.open = Open::Message(message);
    }

    fn close_part(&mut self, message: &mut OpenMessage, out: &mut BytesMut) {
        let Some(part) = message.part.take() else { return };
        let place = json!({ "item_id": message.id, "output_index": message.index, "content_index": message.content.len() });
        let written = part.written();
        let (kind, whole) = if part.is_refusal {
            ("response.refusal.done", json!({ "refusal": part.text }))
        } else {
            ("response.output_text.done", json!({ "text": part.text, "logprobs": part.logprobs }))
        };
        self.emit(kind, with(&place, whole), out);
        self.emit("response.content_part.done", with(&place, json!({ "part": written })), out);
        message.content.push(written);
    }

    fn reasoning(&mut self, text: &str, out: &mut BytesMut) {
        self.keep_text(text);
        if !matches!(self.open, Open::Reasoning { .. }) {
            self.open_reasoning(Reasoning::default(), out);
        }
        let Open::Reasoning { index, id, block } = &mut self.open else { return };
        let place = json!({ "item_id": id, "output_index": index, "summary_index": 0 });
        let begins = block.text.is_empty();
        block.text.push_str(text);
        if begins {
            let part = json!({ "part": items::summary("") });
            self.emit("response.reasoning_summary_part.added", with(&place, part), out);
        }
        self.emit("response.reasoning_summary_text.delta", with(&place, json!({ "delta": text })), out);
    }

    fn open_reasoning(&mut self, block: Reasoning, out: &mut BytesMut) {
        self.close(Status::Completed, out);
        let (index, id) = self.next_item("rs", out);
        self.added(index, &items::reasoning(&id, &Reasoning::default(), Status::InProgress), out);
        self.open = Open::Reasoning { index, id, block };
    }

    /// A signature ends its block.
    fn signature(&mut self, signature: &str, out: &mut BytesMut) {
        self.keep_text(signature);
        if !matches!(self.open, Open::Reasoning { .. }) {
            self.open_reasoning(Reasoning::default(), out);
        }
        if let Open::Reasoning { block, .. } = &mut self.open {
            block.signature = Some(signature.to_owned());
        }
        self.close(Status::Completed, out);
    }

    fn call(&mut self, place: u64, call_id: &str, name: &str, out: &mut BytesMut) {
        self.keep_text(call_id);
        self.keep_text(name);
        if !matches!(self.open, Open::Calls(_)) {
            self.close(Status::Completed, out);
            self.open = Open::Calls(Box::default());
        }
        self.calls(|queue| queue.push(place, call_id.to_owned(), name.to_owned()), out);
    }

    fn arguments(&mut self, place: u64, json: &str, out: &mut BytesMut) {
        self.keep_text(json);
        self.calls(|queue| queue.extend(place, json), out);
    }

    /// Changes the queue of open calls, and writes what can be written of it.
    fn calls(&mut self, change: impl FnOnce(&mut CallQueue), out: &mut BytesMut) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Calls(mut calls) => {
                change(&mut calls.queue);
                self.write_calls(&mut calls, None, out);
                self.open = Open::Calls(calls);
            }
            other => self.open = other,
        }
    }

    /// Writes what has arrived of the call whose turn it is, and of the next ones where it is complete, or where all `end`.
    fn write_calls(&mut self, calls: &mut OpenCalls, end: Option<Status>, out: &mut BytesMut) {
        while let Some(call) = calls.queue.current() {
            let json = std::mem::take(&mut call.unwritten);
            let mut open = match calls.written.take() {
                Some(open) => open,
                None => self.open_call(&call.id, &call.name, out),
            };
            open.call.arguments.push_str(&json);
            // The text of a custom tool is known once its JSON is complete.
            if open.kind == CallKind::Function && !json.is_empty() {
                let fields = json!({ "item_id": open.id, "output_index": open.index, "delta": json });
                self.emit("response.function_call_arguments.delta", fields, out);
            }
            if !calls.queue.next(end.is_some()) {
                calls.written = Some(open);
                return;
            }
            self.close_call(open, end.unwrap_or(Status::Completed), out);
        }
    }

    fn open_call(&mut self, call_id: &str, name: &str, out: &mut BytesMut) -> OpenCall {
        let form = items::form_of(name, &self.options.call_forms).cloned();
        let kind = form.as_ref().map_or(CallKind::Function, |form| form.kind);
        let (index, id) = self.next_item(items::call_prefix(kind), out);
        let call = ToolCall { id: call_id.to_owned(), name: name.to_owned(), arguments: String::new() };
        self.added(index, &items::call(&id, &call, form.as_ref(), Status::InProgress), out);
        OpenCall { index, id, kind, call }
    }

    fn close_call(&mut self, open: OpenCall, status: Status, out: &mut BytesMut) {
        let OpenCall { index, id, kind, mut call, .. } = open;
        let place = json!({ "item_id": id, "output_index": index });
        let form = items::form_of(&call.name, &self.options.call_forms).cloned();
        match kind {
            CallKind::Function => {
                if call.arguments.is_empty() {
                    // Clients parse the arguments of a call that takes none too.
                    call.arguments.push_str("{}");
                    let delta = with(&place, json!({ "delta": "{}" }));
                    self.emit("response.function_call_arguments.delta", delta, out);
                }
                let name = form.as_ref().map_or(&call.name, |form| &form.name);
                let whole = json!({ "name": name, "arguments": call.arguments });
                self.emit("response.function_call_arguments.done", with(&place, whole), out);
            }
            CallKind::Custom => {
                let input = items::free_text(&call.arguments);
                let delta = with(&place, json!({ "delta": input }));
                self.emit("response.custom_tool_call_input.delta", delta, out);
                let whole = with(&place, json!({ "input": input }));
                self.emit("response.custom_tool_call_input.done", whole, out);
            }
            CallKind::ToolSearch => {}
        }
        let item = items::call(&id, &call, form.as_ref(), status);
        self.done(index, item, out);
    }

    /// Ends what is open.
    fn close(&mut self, status: Status, out: &mut BytesMut) {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => {}
            Open::Message(mut message) => {
                self.close_part(&mut message, out);
                self.done(message.index, items::message(&message.id, message.content, status), out);
            }
            Open::Reasoning { index, id, block } => {
                if !block.text.is_empty() {
                    let place = json!({ "item_id": id, "output_index": index, "summary_index": 0 });
                    let text = json!({ "text": block.text });
                    self.emit("response.reasoning_summary_text.done", with(&place, text), out);
                    let part = json!({ "part": items::summary(&block.text) });
                    self.emit("response.reasoning_summary_part.done", with(&place, part), out);
                }
                self.done(index, items::reasoning(&id, &block, status), out);
            }
            Open::Calls(mut calls) => self.write_calls(&mut calls, Some(status), out),
        }
    }
}

/// How many bytes a text takes within a JSON string, at most.
fn written_bytes(text: &str) -> usize {
    let bytes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' => 2,
        // `\u001f`
        0..=0x1f => 6,
        _ => 1,
    });
    bytes.sum()
}

/// The members of both objects.
fn with(place: &Value, fields: Value) -> Value {
    let mut all = place.clone();
    if let (Some(all), Value::Object(fields)) = (all.as_object_mut(), fields) {
        all.extend(fields);
    }
    all
}

#[cfg(test)]
mod tests;
