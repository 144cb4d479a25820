//! The bytes of well-formed messages in Anthropic's shapes.

use bytes::Bytes;
use serde_json::{Value, json};

use super::reply::{Reply, pieces};

/// A reply to a messages request, of one token per content event.
pub(super) struct Message<'a> {
    body: &'a Value,
    reply: &'a Reply,
    model: &'a str,
    tool_calls: Vec<(String, String)>,
}

impl<'a> Message<'a> {
    pub(super) fn new(model: &'a str, body: &'a Value, reply: &'a Reply) -> Self {
        let mut tool_calls = reply.tool_calls.clone();
        if tool_calls.is_empty() {
            tool_calls.extend(forced_tool(body).map(|name| (name, reply.forced_arguments.clone())));
        }
        Self { body, reply, model: reply.model.as_deref().unwrap_or(model), tool_calls }
    }

    fn stop_reason(&self) -> &'static str {
        if self.tool_calls.is_empty() { "end_turn" } else { "tool_use" }
    }

    /// Counts words as tokens.
    fn input_tokens(&self) -> usize {
        self.body["messages"].to_string().split_whitespace().count()
    }

    fn usage(&self) -> Value {
        json!({ "input_tokens": self.input_tokens(), "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "output_tokens": self.reply.words.len() + self.reply.reasoning.len() })
    }

    fn message(&self, content: Value, stop_reason: Value, usage: Value) -> Value {
        json!({ "id": "msg_1", "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": stop_reason, "stop_sequence": null, "usage": usage })
    }

    pub(super) fn start(&self) -> Bytes {
        let usage = json!({ "input_tokens": self.input_tokens(), "output_tokens": 1 });
        let message = self.message(json!([]), Value::Null, usage);
        let start = event(&json!({ "type": "message_start", "message": message }));
        [start, event(&json!({ "type": "ping" }))].concat().into()
    }

    /// The blocks: what begins each one, and its deltas.
    fn blocks(&self) -> Vec<(Value, Vec<Value>)> {
        let mut blocks = Vec::new();
        if !self.reply.reasoning.is_empty() {
            let deltas =
                self.reply.reasoning.iter().map(|word| json!({ "type": "thinking_delta", "thinking": word }));
            let signature = json!({ "type": "signature_delta", "signature": "signed" });
            let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
            blocks.push((block, deltas.chain([signature]).collect()));
        }
        if self.tool_calls.is_empty() {
            let deltas = self.reply.words.iter().map(|word| json!({ "type": "text_delta", "text": word }));
            blocks.push((json!({ "type": "text", "text": "" }), deltas.collect()));
        }
        for (at, (name, arguments)) in self.tool_calls.iter().enumerate() {
            let block = json!({ "type": "tool_use", "id": id(at), "name": name, "input": {} });
            let pieces = pieces(arguments, self.tool_calls.len() > 1).into_iter();
            let delta = |piece| json!({ "type": "input_json_delta", "partial_json": piece });
            blocks.push((block, pieces.map(delta).collect()));
        }
        blocks
    }

    /// One item per delta; the first and the last of a block also begin and end it.
    pub(super) fn content(&self) -> Vec<Bytes> {
        let mut items = Vec::new();
        for (index, (block, deltas)) in self.blocks().into_iter().enumerate() {
            let last = deltas.len().saturating_sub(1);
            for (at, delta) in deltas.into_iter().enumerate() {
                let mut item = String::new();
                if at == 0 {
                    item += &event(
                        &json!({ "type": "content_block_start", "index": index, "content_block": block }),
                    );
                }
                item += &event(&json!({ "type": "content_block_delta", "index": index, "delta": delta }));
                if at == last {
                    item += &event(&json!({ "type": "content_block_stop", "index": index }));
                }
                items.push(item.into());
            }
        }
        items
    }

    pub(super) fn end(&self) -> Vec<Bytes> {
        let delta = json!({ "stop_reason": self.stop_reason(), "stop_sequence": null });
        // Cumulative, and all of it, as Anthropic sends it.
        let delta = event(&json!({ "type": "message_delta", "delta": delta, "usage": self.usage() }));
        vec![delta.into(), event(&json!({ "type": "message_stop" })).into()]
    }

    pub(super) fn whole(&self) -> Value {
        let mut content = Vec::new();
        if !self.reply.reasoning.is_empty() {
            content.push(json!({ "type": "thinking", "thinking": self.reply.reasoning.concat(), "signature": "signed" }));
        }
        if self.tool_calls.is_empty() {
            content.push(json!({ "type": "text", "text": self.reply.words.concat() }));
        }
        for (at, (name, arguments)) in self.tool_calls.iter().enumerate() {
            let input: Value = serde_json::from_str(arguments).expect("the script's arguments are JSON");
            content.push(json!({ "type": "tool_use", "id": id(at), "name": name, "input": input }));
        }
        self.message(Value::Array(content), self.stop_reason().into(), self.usage())
    }

    pub(super) fn count(&self) -> Value {
        json!({ "input_tokens": self.input_tokens() })
    }
}

fn id(at: usize) -> String {
    format!("toolu_{}", at + 1)
}

pub(super) fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().expect("events have a type"))
}

/// The tool that the request requires.
fn forced_tool(body: &Value) -> Option<String> {
    let choice = &body["tool_choice"];
    let name = match choice["type"].as_str()? {
        "tool" => choice["name"].as_str()?,
        "any" => body["tools"][0]["name"].as_str()?,
        _ => return None,
    };
    Some(name.to_owned())
}
