//! The bytes of well-formed answers of OpenAI's Responses API.

use std::cell::Cell;

use bytes::Bytes;
use serde_json::{Value, json};

use super::{
    messages::event,
    reply::{Reply, call_id, pieces},
};

/// A reply to a request for a response, of one token per content event.
pub(super) struct Response<'a> {
    body: &'a Value,
    reply: &'a Reply,
    model: &'a str,
    /// Events so far, each of which has its number.
    sent: Cell<u64>,
}

impl<'a> Response<'a> {
    pub(super) fn new(model: &'a str, body: &'a Value, reply: &'a Reply) -> Self {
        Self { body, reply, model: reply.model.as_deref().unwrap_or(model), sent: Cell::new(0) }
    }

    /// Counts words as tokens.
    fn usage(&self) -> Value {
        let input = self.body["input"].to_string().split_whitespace().count();
        let reasoning = self.reply.reasoning.len();
        let output = self.reply.words.len() + reasoning;
        json!({ "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": output,
            "output_tokens_details": { "reasoning_tokens": reasoning }, "total_tokens": input + output })
    }

    fn response(&self, status: &str, output: &[Value], usage: Value) -> Value {
        json!({ "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": status, "error": null,
            "incomplete_details": null, "model": self.model, "output": output, "parallel_tool_calls": true,
            "tool_choice": "auto", "tools": [], "usage": usage })
    }

    /// The items, as they are when complete, each with its deltas.
    fn items(&self) -> Vec<(Value, Vec<String>)> {
        let mut items = Vec::new();
        if !self.reply.reasoning.is_empty() {
            let summary = json!({ "type": "summary_text", "text": self.reply.reasoning.concat() });
            let item = json!({ "id": "rs_1", "type": "reasoning", "summary": [summary] });
            items.push((item, self.reply.reasoning.clone()));
        }
        if self.reply.tool_calls.is_empty() {
            let part = json!({ "type": "output_text", "text": self.reply.words.concat(), "annotations": [], "logprobs": [] });
            let item = json!({ "id": "msg_1", "type": "message", "role": "assistant", "status": "completed",
                "content": [part] });
            items.push((item, self.reply.words.clone()));
        }
        for (at, (name, arguments)) in self.reply.tool_calls.iter().enumerate() {
            let item = json!({ "id": format!("fc_{}", at + 1), "type": "function_call", "status": "completed",
                "call_id": call_id(at), "name": name, "arguments": arguments });
            items.push((item, pieces(arguments, self.reply.tool_calls.len() > 1)));
        }
        items
    }

    fn event(&self, mut data: Value) -> String {
        data["sequence_number"] = self.sent.get().into();
        self.sent.set(self.sent.get() + 1);
        event(&data)
    }

    pub(super) fn start(&self) -> Bytes {
        let response = self.response("in_progress", &[], Value::Null);
        let created = self.event(json!({ "type": "response.created", "response": response }));
        (created + &self.event(json!({ "type": "response.in_progress", "response": response }))).into()
    }

    /// One item of the list per delta; the first and the last of an output item also begin and end it.
    pub(super) fn content(&self) -> Vec<Bytes> {
        let mut events = Vec::new();
        for (index, (item, deltas)) in self.items().into_iter().enumerate() {
            let last = deltas.len().saturating_sub(1);
            for (at, delta) in deltas.into_iter().enumerate() {
                let mut text = String::new();
                if at == 0 {
                    text += &self.begin(index, &item);
                }
                text += &self.delta(index, &item, &delta);
                if at == last {
                    text += &self.finish(index, &item);
                }
                events.push(text.into());
            }
        }
        events
    }

    /// Opens an item, and the part of it that has the text.
    fn begin(&self, index: usize, item: &Value) -> String {
        let mut begun = item.clone();
        let part = match item["type"].as_str() {
            Some("message") => {
                begun["status"] = "in_progress".into();
                begun["content"] = json!([]);
                Some(("response.content_part.added", "content_index", &item["content"][0]))
            }
            Some("reasoning") => {
                begun["summary"] = json!([]);
                Some(("response.reasoning_summary_part.added", "summary_index", &item["summary"][0]))
            }
            _ => {
                begun["status"] = "in_progress".into();
                begun["arguments"] = "".into();
                None
            }
        };
        let mut text =
            self.event(json!({ "type": "response.output_item.added", "output_index": index, "item": begun }));
        if let Some((kind, place, part)) = part {
            let mut part = part.clone();
            part["text"] = "".into();
            text += &self.event(
                json!({ "type": kind, "item_id": item["id"], "output_index": index, place: 0, "part": part }),
            );
        }
        text
    }

    fn delta(&self, index: usize, item: &Value, delta: &str) -> String {
        let event = match item["type"].as_str() {
            Some("message") => {
                json!({ "type": "response.output_text.delta", "item_id": item["id"], "output_index": index,
                    "content_index": 0, "delta": delta, "logprobs": [] })
            }
            Some("reasoning") => {
                json!({ "type": "response.reasoning_summary_text.delta", "item_id": item["id"],
                "output_index": index, "summary_index": 0, "delta": delta })
            }
            _ => json!({ "type": "response.function_call_arguments.delta", "item_id": item["id"],
                "output_index": index, "delta": delta }),
        };
        self.event(event)
    }

    /// Closes what [`Response::begin`] opened.
    fn finish(&self, index: usize, item: &Value) -> String {
        let id = &item["id"];
        let done = match item["type"].as_str() {
            Some("message") => {
                let part = &item["content"][0];
                self.event(json!({ "type": "response.output_text.done", "item_id": id, "output_index": index,
                    "content_index": 0, "text": part["text"], "logprobs": [] }))
                    + &self.event(
                        json!({ "type": "response.content_part.done", "item_id": id, "output_index": index,
                        "content_index": 0, "part": part }),
                    )
            }
            Some("reasoning") => {
                let part = &item["summary"][0];
                self.event(json!({ "type": "response.reasoning_summary_text.done", "item_id": id, "output_index": index,
                    "summary_index": 0, "text": part["text"] }))
                    + &self.event(json!({ "type": "response.reasoning_summary_part.done", "item_id": id,
                        "output_index": index, "summary_index": 0, "part": part }))
            }
            _ => self.event(json!({ "type": "response.function_call_arguments.done", "item_id": id,
                "output_index": index, "name": item["name"], "arguments": item["arguments"] })),
        };
        done + &self
            .event(json!({ "type": "response.output_item.done", "output_index": index, "item": item }))
    }

    pub(super) fn end(&self) -> Vec<Bytes> {
        vec![self.event(json!({ "type": "response.completed", "response": self.whole() })).into()]
    }

    pub(super) fn whole(&self) -> Value {
        let output: Vec<Value> = self.items().into_iter().map(|(item, _)| item).collect();
        self.response("completed", &output, self.usage())
    }
}
