//! Whole answers of chat completions.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    reasoning::{self, Detail},
    wire,
};
use crate::{
    lenient,
    openai::usage::ReportedUsage,
    translate::{
        conversation::{Part, ToolCall},
        reply::{Choice, Reply},
    },
};

#[derive(Deserialize)]
struct WireReply {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    created: Value,
    choices: Vec<WireChoice>,
    #[serde(default)]
    usage: Option<ReportedUsage>,
}

#[derive(Deserialize)]
struct WireChoice {
    #[serde(default)]
    message: WireMessage,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    stop_reason: Option<Value>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Default, Deserialize)]
struct WireMessage {
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

/// Reads a whole answer. `None` for a body that is no chat completion.
pub fn read_reply(body: &[u8]) -> Option<Reply> {
    let wire: WireReply = lenient::object(body)?;
    let id = wire.id.filter(|id| !id.is_empty());
    let choices = wire.choices.into_iter().enumerate();
    let choices = choices
        .map(|(at, choice)| read_choice(choice, id.as_deref(), u64::try_from(at).unwrap_or(u64::MAX)))
        .collect();
    Some(Reply {
        model: wire.model.filter(|model| !model.is_empty()),
        created: wire.created.as_u64(),
        choices,
        usage: wire.usage.and_then(|usage| usage.0),
        id,
    })
}

fn read_choice(choice: WireChoice, id: Option<&str>, at: u64) -> Choice {
    let WireMessage { content, refusal, reasoning_content, reasoning, reasoning_details, tool_calls, .. } =
        choice.message;
    let text = reasoning_content.or_else(|| reasoning.as_str().map(str::to_owned));
    let blocks = reasoning::blocks(reasoning::details(reasoning_details), text);
    let mut parts: Vec<Part> = blocks.into_iter().map(Part::Reasoning).collect();
    parts.extend(reasoning::content_parts(&content));
    parts.extend(refusal.filter(|text| !text.is_empty()).map(Part::Refusal));
    let older = choice.message.function_call.map(|function| WireCall { id: None, function });
    let calls = tool_calls.unwrap_or_default().into_iter().chain(older);
    let before = parts.len();
    for (call, WireCall { id: call_id, function }) in (0..).zip(calls) {
        let arguments = match function.arguments {
            Value::String(text) => text,
            Value::Null => String::new(),
            // Some servers write the object itself.
            value => value.to_string(),
        };
        parts.push(Part::ToolCall(ToolCall {
            id: call_id.filter(|id| !id.is_empty()).unwrap_or_else(|| wire::derived_call_id(id, at, call)),
            name: function.name.unwrap_or_default(),
            arguments,
        }));
    }
    let has_calls = parts.len() > before;
    let finish =
        choice.finish_reason.map(|reason| wire::read_finish(&reason, choice.stop_reason.as_ref(), has_calls));
    Choice { parts, finish, logprobs: choice.logprobs.filter(|logprobs| !logprobs.is_null()) }
}

/// Writes a whole answer.
pub fn write_reply(reply: &Reply) -> Bytes {
    let choices: Vec<Value> =
        reply.choices.iter().enumerate().map(|(at, choice)| write_choice(at, choice)).collect();
    let mut body = Map::new();
    body.insert("id".to_owned(), reply.id.as_deref().unwrap_or(wire::UNKNOWN_ID).into());
    body.insert("object".to_owned(), "chat.completion".into());
    body.insert("created".to_owned(), reply.created.unwrap_or(0).into());
    body.insert("model".to_owned(), reply.model.as_deref().unwrap_or_default().into());
    body.insert("choices".to_owned(), choices.into());
    if let Some(usage) = reply.usage {
        body.insert("usage".to_owned(), json!(wire::WireUsage::from(usage)));
    }
    Bytes::from(Value::Object(body).to_string())
}

fn write_choice(at: usize, choice: &Choice) -> Value {
    let (mut text, mut refusal, mut reasoning) = (String::new(), String::new(), String::new());
    let (mut details, mut calls) = (Vec::new(), Vec::new());
    let mut blocks = 0;
    for part in &choice.parts {
        match part {
            Part::Text(more) => text.push_str(more),
            Part::Refusal(more) => refusal.push_str(more),
            Part::Reasoning(block) => {
                reasoning.push_str(&block.text);
                details.extend(Detail::of(block, blocks));
                blocks = blocks.saturating_add(1);
            }
            Part::ToolCall(call) => calls.push(wire::tool_call(call)),
            // No model answers with them in chat completions.
            Part::Image(_) | Part::Document { .. } | Part::Audio(_) | Part::ToolResult { .. } => {}
        }
    }
    let present = |text: String| if text.is_empty() { Value::Null } else { text.into() };
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    let without_text = !(calls.is_empty() && refusal.is_empty());
    message.insert("content".to_owned(), if without_text { present(text) } else { text.into() });
    message.insert("refusal".to_owned(), present(refusal));
    if !reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), reasoning.into());
    }
    if !details.is_empty() {
        message.insert("reasoning_details".to_owned(), json!(details));
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), calls.into());
    }
    let mut written = Map::new();
    written.insert("index".to_owned(), at.into());
    written.insert("message".to_owned(), message.into());
    written.insert("logprobs".to_owned(), choice.logprobs.clone().unwrap_or_default());
    let finish = choice.finish.as_ref();
    written.insert("finish_reason".to_owned(), finish.map(wire::finish_reason).into());
    if let Some(text) = finish.and_then(wire::stop_reason) {
        written.insert("stop_reason".to_owned(), text.into());
    }
    Value::Object(written)
}
