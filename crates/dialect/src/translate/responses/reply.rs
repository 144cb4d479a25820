//! Writes whole answers and errors.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    items::{self, Status},
    response::{End, Envelope},
};
use crate::{
    error::UpstreamError,
    openai::error,
    translate::{
        conversation::{CallKind, Part},
        reply::{Choice, Reply, WriterOptions},
    },
};

/// Writes a whole answer. The API has one choice; others are left out, and the reader asks for none.
pub fn write_reply(reply: &Reply, options: &WriterOptions) -> Bytes {
    let envelope = Envelope::new(reply.id.as_deref(), reply.model.as_deref(), reply.created, options);
    let choice = reply.choices.first();
    let end = End::of(choice.and_then(|choice| choice.finish.as_ref()));
    let output = choice.map(|choice| output(choice, &envelope, end, options)).unwrap_or_default();
    Bytes::from(envelope.ended(end, &output, reply.usage).to_string())
}

fn output(choice: &Choice, envelope: &Envelope, end: End, options: &WriterOptions) -> Vec<Value> {
    let mut logprobs = items::logprobs(choice.logprobs.as_ref());
    let mut output: Vec<Value> = Vec::new();
    let mut parts = choice.parts.iter().peekable();
    while let Some(part) = parts.next() {
        let index = output.len();
        let mut content = match part {
            Part::Reasoning(block) => {
                output.push(items::reasoning(&envelope.item_id("rs", index), block, Status::Completed));
                continue;
            }
            Part::ToolCall(call) => {
                let form = items::form_of(&call.name, &options.call_forms);
                let prefix = items::call_prefix(form.map_or(CallKind::Function, |form| form.kind));
                output.push(items::call(&envelope.item_id(prefix, index), call, form, Status::Completed));
                continue;
            }
            Part::Text(text) => vec![items::text(text, std::mem::take(&mut logprobs))],
            Part::Refusal(text) => vec![items::refusal(text)],
            // No model of a translated API answers in other media.
            Part::Image(_) | Part::Document { .. } | Part::Audio(_) | Part::ToolResult { .. } => continue,
        };
        while let Some(next) = parts.peek() {
            match next {
                Part::Text(text) => content.push(items::text(text, std::mem::take(&mut logprobs))),
                Part::Refusal(text) => content.push(items::refusal(text)),
                _ => break,
            }
            parts.next();
        }
        let cut = end != End::Completed && parts.peek().is_none();
        let status = if cut { Status::Incomplete } else { Status::Completed };
        output.push(items::message(&envelope.item_id("msg", index), content, status));
    }
    output
}

/// Writes a provider's error; the API has the shape of all of OpenAI's.
pub fn error_body(error: &UpstreamError, _status: u16) -> Bytes {
    let message = error.message.as_deref().unwrap_or("the provider returned an error without a message");
    error::error_body(message, error.kind.as_deref(), error.code.as_deref())
}

/// Writes the event that ends a broken stream.
///
/// INVARIANT 13: no `response.completed` follows. OpenAI's clients raise an event that has `error`; those that read events by
/// their type find the same words beside it.
pub fn error_event(message: &str, kind: &str, code: &str) -> Bytes {
    let error = json!({ "message": message, "type": kind, "code": code, "param": null });
    let event = json!({ "type": "error", "code": code, "message": message, "param": null, "error": error });
    Bytes::from(format!("event: error\ndata: {event}\n\n"))
}
