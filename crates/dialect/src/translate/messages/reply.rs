//! Reads and writes whole answers.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    anthropic::count::Counts,
    lenient,
    translate::{
        conversation::{Part, Reasoning, ToolCall},
        reply::{Choice, Finish, Reply},
    },
    usage::Usage,
};

#[derive(Deserialize)]
struct WireMessage {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    content: Vec<WireBlock>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
    #[serde(default)]
    usage: Option<Value>,
}

/// A block of an answer. Other types come from the provider's own tools, which no translated request has.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum WireBlock {
    Text {
        text: String,
    },
    Thinking {
        thinking: String,
        #[serde(default)]
        signature: Option<String>,
    },
    RedactedThinking {
        data: String,
    },
    ToolUse {
        id: String,
        name: String,
        #[serde(default)]
        input: Map<String, Value>,
    },
}

/// Reads a message. `None` for a body that is no message, or has a block of an unknown type.
pub fn read_reply(body: &[u8]) -> Option<Reply> {
    let message: WireMessage = lenient::object(body)?;
    if message.kind != "message" {
        return None;
    }
    let parts = message.content.into_iter().map(|block| match block {
        WireBlock::Text { text } => Part::Text(text),
        WireBlock::Thinking { thinking, signature } => Part::Reasoning(Reasoning {
            text: thinking,
            signature: signature.filter(|signature| !signature.is_empty()),
            encrypted: None,
        }),
        WireBlock::RedactedThinking { data } => {
            Part::Reasoning(Reasoning { encrypted: Some(data), ..Reasoning::default() })
        }
        WireBlock::ToolUse { id, name, input } => {
            Part::ToolCall(ToolCall { id, name, arguments: Value::Object(input).to_string() })
        }
    });
    let finish = message.stop_reason.map(|reason| finish(&reason, message.stop_sequence));
    Some(Reply {
        id: message.id,
        model: message.model,
        created: None,
        choices: vec![Choice { parts: parts.collect(), finish, logprobs: None }],
        usage: Counts::default().take(message.usage),
    })
}

/// The meaning of a `stop_reason`. A reason that is not known is an end like any other.
pub(super) fn finish(reason: &str, sequence: Option<String>) -> Finish {
    match reason {
        "max_tokens" | "model_context_window_exceeded" => Finish::Length,
        "stop_sequence" => Finish::StopSequence(sequence),
        "tool_use" => Finish::ToolCalls,
        "refusal" => Finish::Refused,
        _ => Finish::Stop,
    }
}

/// `stop_reason` and `stop_sequence`. Some servers end with `stop` although the model calls tools.
pub(super) fn stop_reason(finish: Option<&Finish>, calls_tools: bool) -> (Value, Value) {
    match finish {
        None => (Value::Null, Value::Null),
        Some(Finish::Stop | Finish::ToolCalls) if calls_tools => ("tool_use".into(), Value::Null),
        Some(Finish::Stop | Finish::ToolCalls) => ("end_turn".into(), Value::Null),
        Some(Finish::StopSequence(sequence)) => ("stop_sequence".into(), sequence.clone().into()),
        Some(Finish::Length) => ("max_tokens".into(), Value::Null),
        Some(Finish::Refused) => ("refusal".into(), Value::Null),
    }
}

/// `usage`. `input_tokens` counts only what the prompt cache neither read nor wrote.
pub(super) fn usage(usage: &Usage) -> Value {
    let cached = usage.cached_input_tokens.saturating_add(usage.cache_write_input_tokens);
    let mut written = json!({
        "input_tokens": usage.input_tokens.saturating_sub(cached),
        "cache_creation_input_tokens": usage.cache_write_input_tokens,
        "cache_read_input_tokens": usage.cached_input_tokens,
        "output_tokens": usage.output_tokens,
    });
    if let Some(written) = written.as_object_mut().filter(|_| usage.reasoning_tokens > 0) {
        let details = json!({ "thinking_tokens": usage.reasoning_tokens });
        written.insert("output_tokens_details".to_owned(), details);
    }
    written
}

/// The id of an answer in Anthropic's form, derived from the provider's.
pub(super) fn message_id(id: Option<&str>) -> String {
    match id {
        Some(id) if id.starts_with("msg_") => id.to_owned(),
        id => format!("msg_{}", id.unwrap_or("unknown")),
    }
}

/// Writes a message of the first choice; a translated request has no more.
pub fn write_reply(reply: &Reply) -> Bytes {
    let choice = reply.choices.first();
    let parts = choice.map(|choice| choice.parts.as_slice()).unwrap_or_default();
    let calls_tools = parts.iter().any(|part| matches!(part, Part::ToolCall(_)));
    let (stop_reason, stop_sequence) =
        stop_reason(choice.and_then(|choice| choice.finish.as_ref()), calls_tools);
    let message = json!({
        "id": message_id(reply.id.as_deref()),
        "type": "message",
        "role": "assistant",
        "model": reply.model.as_deref().unwrap_or_default(),
        "content": parts.iter().filter_map(block).collect::<Vec<_>>(),
        "stop_reason": stop_reason,
        "stop_sequence": stop_sequence,
        "usage": usage(&reply.usage.unwrap_or_default()),
    });
    Bytes::from(message.to_string())
}

/// A block; `None` for an empty text, and for a part that no model writes.
fn block(part: &Part) -> Option<Value> {
    match part {
        Part::Text(text) | Part::Refusal(text) => {
            (!text.is_empty()).then(|| json!({ "type": "text", "text": text }))
        }
        Part::Reasoning(Reasoning { encrypted: Some(data), .. }) => {
            Some(json!({ "type": "redacted_thinking", "data": data }))
        }
        Part::Reasoning(Reasoning { text, signature, .. }) => Some(json!({
            "type": "thinking", "thinking": text, "signature": signature.as_deref().unwrap_or_default(),
        })),
        Part::ToolCall(call) => Some(json!({
            "type": "tool_use", "id": call.id, "name": call.name, "input": input(&call.arguments),
        })),
        Part::Image(_) | Part::Document { .. } | Part::Audio(_) | Part::ToolResult { .. } => None,
    }
}

/// The arguments as an object. Those that are none, for example because the answer was cut, are wrapped as Anthropic's
/// documentation proposes ("Fine-grained tool streaming"), so that no tool runs with fewer arguments than the model wrote.
fn input(arguments: &str) -> Value {
    if arguments.trim().is_empty() {
        return Value::Object(Map::new());
    }
    match lenient::value(arguments.as_bytes()) {
        Some(input @ Value::Object(_)) => input,
        _ => json!({ "INVALID_JSON": arguments }),
    }
}
