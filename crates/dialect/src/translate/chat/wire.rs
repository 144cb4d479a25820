//! The parts of an answer that whole answers and streams write alike.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{translate::conversation::ToolCall, translate::reply::Finish, usage::Usage};

/// What stands in the place of an id that the provider did not send. Clients require a string.
pub(super) const UNKNOWN_ID: &str = "chatcmpl-unknown";

/// The id of a call whose server sent none: the same in each reading of the answer, and another in each answer.
pub(super) fn derived_call_id(answer: Option<&str>, choice: u64, call: u64) -> String {
    format!("call_{}_{choice}_{call}", answer.unwrap_or("0"))
}

/// Reads a finish reason and vLLM's `stop_reason`, the text in `stop` that came. Servers report `stop` after calls too.
pub(super) fn read_finish(reason: &str, stop_reason: Option<&Value>, has_calls: bool) -> Finish {
    match reason {
        "length" | "max_tokens" => Finish::Length,
        "tool_calls" | "function_call" => Finish::ToolCalls,
        "content_filter" => Finish::Refused,
        _ if has_calls => Finish::ToolCalls,
        _ => match stop_reason {
            Some(Value::String(text)) => Finish::StopSequence(Some(text.clone())),
            _ => Finish::Stop,
        },
    }
}

/// The finish reason of OpenAI.
pub(super) fn finish_reason(finish: &Finish) -> &'static str {
    match finish {
        Finish::Stop | Finish::StopSequence(_) => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::Refused => "content_filter",
    }
}

/// The text in `stop` that came, which vLLM reports as `stop_reason`.
pub(super) fn stop_reason(finish: &Finish) -> Option<&str> {
    match finish {
        Finish::StopSequence(text) => text.as_deref(),
        Finish::Stop | Finish::Length | Finish::ToolCalls | Finish::Refused => None,
    }
}

/// Tokens in OpenAI's form.
#[derive(Serialize)]
pub(super) struct WireUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: Map<String, Value>,
    completion_tokens_details: Map<String, Value>,
}

impl From<Usage> for WireUsage {
    fn from(usage: Usage) -> Self {
        let details = |name: &str, tokens: u64| Map::from_iter([(name.to_owned(), tokens.into())]);
        let mut input = details("cached_tokens", usage.cached_input_tokens);
        if usage.cache_write_input_tokens > 0 {
            input.extend(details("cache_write_tokens", usage.cache_write_input_tokens));
        }
        Self {
            prompt_tokens: usage.input_tokens,
            completion_tokens: usage.output_tokens,
            total_tokens: usage.input_tokens.saturating_add(usage.output_tokens),
            prompt_tokens_details: input,
            completion_tokens_details: details("reasoning_tokens", usage.reasoning_tokens),
        }
    }
}

/// A call in a whole message; one without arguments gets an empty object, because clients and servers parse them.
pub(super) fn tool_call(call: &ToolCall) -> Value {
    let arguments = if call.arguments.trim().is_empty() { "{}" } else { &call.arguments };
    json!({ "id": call.id, "type": "function", "function": { "name": call.name, "arguments": arguments } })
}
