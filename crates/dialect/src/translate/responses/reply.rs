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
/// INVARIANT 13: no `response.completed` follows. OpenAI's clients raise an event that has `error` beside its type; Codex shows
/// the words in a failed response, and takes a stream that ends with an event `error` for one that was cut.
pub fn error_event(message: &str, kind: &str, code: &str) -> Bytes {
    let error = json!({ "message": message, "type": kind, "code": code, "param": null });
    let failed = json!({ "code": code, "message": message });
    let response = json!({ "object": "response", "status": "failed", "error": failed, "output": [] });
    let event = json!({ "type": "response.failed", "response": response, "error": error });
    Bytes::from(format!("event: response.failed\ndata: {event}\n\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        EventMeaning,
        openai::responses::{answer::read_answer, event::read_event},
        sse::Decoder,
        translate::{
            conversation::{Reasoning, ToolCall},
            reply::Finish,
        },
    };

    #[test]
    fn inv_13_error_event_does_not_complete_a_stream() {
        let mut decoder = Decoder::default();
        decoder.push(&error_event("went\naway", "upstream_error", "broken_stream"));
        let frame = decoder.next_frame().unwrap().unwrap();
        let EventMeaning::Error(error) = read_event(&frame).meaning else { panic!("{frame:?}") };
        assert_eq!(error.message.as_deref(), Some("went\naway"));
        assert_eq!((error.code.as_deref(), decoder.finish()), (Some("broken_stream"), Ok(None)));
    }

    #[test]
    fn whole_answer_has_an_item_for_each_part() {
        let parts = vec![
            Part::Reasoning(Reasoning { text: "hm".into(), ..Reasoning::default() }),
            Part::Text("a".into()),
            Part::Refusal("no".into()),
            Part::ToolCall(ToolCall { id: "c".into(), name: "f".into(), arguments: "{}".into() }),
            Part::Text("b".into()),
        ];
        let logprobs = Some(json!({ "content": [{ "token": "a" }] }));
        let reply = |finish| Reply {
            id: Some("chatcmpl-1".into()),
            choices: vec![Choice { parts: parts.clone(), finish: Some(finish), logprobs: logprobs.clone() }],
            ..Reply::default()
        };
        let options = WriterOptions { now: 7, ..WriterOptions::default() };
        let written =
            |finish| -> Value { serde_json::from_slice(&write_reply(&reply(finish), &options)).unwrap() };
        let cut = written(Finish::Length);
        assert_eq!(
            (&cut["id"], &cut["created_at"], &cut["usage"]),
            (&json!("resp_1"), &json!(7), &Value::Null)
        );
        assert_eq!(
            cut["output"],
            json!([
                {"type": "reasoning", "id": "rs_1_0", "status": "completed", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"type": "message", "id": "msg_1_1", "status": "completed", "role": "assistant", "content": [
                    {"type": "output_text", "text": "a", "annotations": [], "logprobs": [{"token": "a"}]},
                    {"type": "refusal", "refusal": "no"}]},
                {"type": "function_call", "id": "fc_1_2", "status": "completed", "call_id": "c", "name": "f", "arguments": "{}"},
                {"type": "message", "id": "msg_1_3", "status": "incomplete", "role": "assistant", "content": [
                    {"type": "output_text", "text": "b", "annotations": [], "logprobs": []}]},
            ])
        );
        let whole = written(Finish::Stop);
        assert!(read_answer(whole.to_string().as_bytes()).is_some_and(|answer| answer.error.is_none()));
    }
}
