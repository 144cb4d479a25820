//! The bytes of well-formed answers of OpenAI's Responses API.

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
}

impl<'a> Response<'a> {
    pub(super) fn new(model: &'a str, body: &'a Value, reply: &'a Reply) -> Self {
        Self { body, reply, model: reply.model.as_deref().unwrap_or(model) }
    }

    /// Counts words as tokens.
    fn usage(&self) -> Value {
        let (input, output) =
            (self.body["input"].to_string().split_whitespace().count(), self.reply.words.len());
        json!({ "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": output,
            "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": input + output })
    }

    fn response(&self, status: &str, output: &[Value], usage: Value) -> Value {
        json!({ "id": "resp_1", "object": "response", "created_at": 1_700_000_000, "status": status, "error": null,
            "incomplete_details": null, "model": self.model, "output": output, "usage": usage })
    }

    /// The items, as they are when complete.
    fn output(&self) -> Vec<Value> {
        if self.reply.tool_calls.is_empty() {
            let part = json!({ "type": "output_text", "text": self.reply.words.concat(), "annotations": [] });
            return vec![
                json!({ "id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part] }),
            ];
        }
        let call = |(at, (name, arguments)): (usize, &(String, String))| {
            json!({ "id": format!("fc_{}", at + 1), "type": "function_call", "status": "completed",
                "call_id": call_id(at), "name": name, "arguments": arguments })
        };
        self.reply.tool_calls.iter().enumerate().map(call).collect()
    }

    pub(super) fn start(&self) -> Bytes {
        let response = self.response("in_progress", &[], Value::Null);
        event(&json!({ "type": "response.created", "response": response })).into()
    }

    /// One item of the list per delta; the first and the last of an output item also begin and end it.
    pub(super) fn content(&self) -> Vec<Bytes> {
        let mut events = Vec::new();
        for (index, item) in self.output().iter().enumerate() {
            let deltas: Vec<(&str, String)> = match self.reply.tool_calls.get(index) {
                None => {
                    self.reply.words.iter().map(|word| ("response.output_text.delta", word.clone())).collect()
                }
                Some((_, arguments)) => pieces(arguments, self.reply.tool_calls.len() > 1)
                    .into_iter()
                    .map(|piece| ("response.function_call_arguments.delta", piece))
                    .collect(),
            };
            let last = deltas.len().saturating_sub(1);
            for (at, (kind, delta)) in deltas.into_iter().enumerate() {
                let mut text = String::new();
                if at == 0 {
                    let mut begun = item.clone();
                    begun["status"] = "in_progress".into();
                    begun[if self.reply.tool_calls.is_empty() { "content" } else { "arguments" }] =
                        Value::Null;
                    let added =
                        json!({ "type": "response.output_item.added", "output_index": index, "item": begun });
                    text += &event(&added);
                }
                text += &event(&json!({ "type": kind, "item_id": item["id"], "output_index": index,
                    "content_index": 0, "delta": delta }));
                if at == last {
                    text += &event(
                        &json!({ "type": "response.output_item.done", "output_index": index, "item": item }),
                    );
                }
                events.push(text.into());
            }
        }
        events
    }

    pub(super) fn end(&self) -> Vec<Bytes> {
        vec![event(&json!({ "type": "response.completed", "response": self.whole() })).into()]
    }

    pub(super) fn whole(&self) -> Value {
        self.response("completed", &self.output(), self.usage())
    }
}
