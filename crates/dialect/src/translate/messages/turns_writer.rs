//! Writes the instructions and the turns of a messages request.
//!
//! - Turns of one role that follow each other are one message, in which results of tools come first: Anthropic wants them
//!   directly after the calls.
//! - Empty texts, which Anthropic rejects, are left out.
//! - Reasoning without a signature is left out: another provider wrote it, and Anthropic accepts only its own.

use std::{borrow::Cow, fmt::Write as _};

use serde_json::{Map, Value, json};

use crate::{
    request_error::RequestError,
    translate::conversation::{Media, Part, Role, ToolCall, Turn},
};

/// The name of this API in errors.
const API: &str = "Anthropic's messages";

/// That Anthropic's messages cannot express what is at this path.
pub(super) fn unsupported(param: String) -> RequestError {
    RequestError::Unsupported { param, api: API }
}

fn invalid(param: String, expected: &'static str) -> RequestError {
    RequestError::Invalid { param, expected }
}

/// `system`, where there are instructions.
pub(super) fn system(parts: &[Part]) -> Result<Option<Value>, RequestError> {
    let mut blocks = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) => blocks.extend(text_block(text)),
            _ => return Err(unsupported("system".to_owned())),
        }
    }
    Ok(match (blocks.len(), parts) {
        (0, _) => None,
        (_, [Part::Text(text)]) => Some(text.as_str().into()),
        _ => Some(Value::Array(blocks)),
    })
}

/// The blocks of one message.
struct Message {
    role: Role,
    /// Of the first turn.
    path: String,
    results: Vec<Value>,
    blocks: Vec<Value>,
    /// The calls of tools in `blocks`, or those that `results` answer, by id, with the path of each.
    calls: Vec<(String, String)>,
}

/// `messages`.
pub(super) fn messages(turns: &[Turn]) -> Result<Value, RequestError> {
    let mut messages: Vec<Message> = Vec::new();
    for turn in turns {
        if messages.last().is_none_or(|last| last.role != turn.role) {
            // A turn in which the model wrote nothing, not even a call, adds nothing.
            if turn.role == Role::Assistant && turn.parts.iter().all(is_empty) {
                continue;
            }
            messages.push(Message {
                role: turn.role,
                path: turn.path().to_owned(),
                results: Vec::new(),
                blocks: Vec::new(),
                calls: Vec::new(),
            });
        }
        if let Some(message) = messages.last_mut() {
            for (index, part) in turn.parts.iter().enumerate() {
                add(part, message, || turn.part_path(index))?;
            }
        }
    }
    check(&messages)?;
    Ok(messages.into_iter().map(written).collect())
}

fn written(message: Message) -> Value {
    let mut blocks = message.results;
    blocks.extend(message.blocks);
    let role = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
    };
    // A single text is written as one, the plainest form.
    let content = match blocks.as_slice() {
        [block] if block.get("type").and_then(Value::as_str) == Some("text") => block.get("text").cloned(),
        _ => None,
    };
    json!({ "role": role, "content": content.unwrap_or(Value::Array(blocks)) })
}

/// Refuses what Anthropic's messages cannot express, with the place where it stands.
fn check(messages: &[Message]) -> Result<(), RequestError> {
    match messages.first() {
        None => {
            return Err(invalid(
                "messages".to_owned(),
                "at least one message besides instructions, for Anthropic's messages",
            ));
        }
        Some(first) if first.role != Role::User => {
            return Err(invalid(first.path.clone(), "of the user, whom Anthropic's messages begin with"));
        }
        Some(_) => {}
    }
    let mut open: &[(String, String)] = &[];
    let has = |calls: &[(String, String)], id: &str| calls.iter().any(|(call, _)| call == id);
    for message in messages {
        match message.role {
            Role::User => {
                if message.results.is_empty() && message.blocks.is_empty() {
                    return Err(invalid(message.path.clone(), "not empty, for Anthropic's messages"));
                }
                if open.iter().any(|(call, _)| !has(&message.calls, call)) {
                    let expected =
                        "followed by a result for each call of a tool before it, for Anthropic's messages";
                    return Err(invalid(message.path.clone(), expected));
                }
                if let Some((_, path)) = message.calls.iter().find(|(result, _)| !has(open, result)) {
                    let expected = "the result of a call in the message before it, for Anthropic's messages";
                    return Err(invalid(path.clone(), expected));
                }
                open = &[];
            }
            Role::Assistant => open = &message.calls,
        }
    }
    Ok(())
}

/// Whether a part of the model's turn has nothing that is sent.
fn is_empty(part: &Part) -> bool {
    match part {
        Part::Text(text) | Part::Refusal(text) => text.is_empty(),
        Part::Reasoning(reasoning) => reasoning.signature.is_none() && reasoning.encrypted.is_none(),
        _ => false,
    }
}

fn add(part: &Part, message: &mut Message, path: impl Fn() -> String) -> Result<(), RequestError> {
    match (part, message.role) {
        (Part::ToolResult { call, parts, is_error }, Role::User) => {
            let call = tool_id(call).into_owned();
            let mut content = Vec::new();
            for part in parts {
                content.extend(user_block(part, &path)?);
            }
            let mut result = Map::new();
            result.insert("type".to_owned(), "tool_result".into());
            result.insert("tool_use_id".to_owned(), call.as_str().into());
            match parts.as_slice() {
                [Part::Text(text)] if !text.is_empty() => {
                    result.insert("content".to_owned(), text.as_str().into());
                }
                _ if !content.is_empty() => {
                    result.insert("content".to_owned(), Value::Array(content));
                }
                _ => {}
            }
            if *is_error {
                result.insert("is_error".to_owned(), true.into());
            }
            message.results.push(Value::Object(result));
            message.calls.push((call, path()));
        }
        (Part::ToolCall(call), Role::Assistant) => {
            let block =
                tool_use(call).ok_or_else(|| invalid(path(), "a call whose arguments are a JSON object"))?;
            message.blocks.push(block);
            message.calls.push((tool_id(&call.id).into_owned(), path()));
        }
        (Part::Reasoning(reasoning), Role::Assistant) => {
            let block = match (&reasoning.encrypted, &reasoning.signature) {
                (Some(data), _) => json!({ "type": "redacted_thinking", "data": data }),
                (None, Some(signature)) => {
                    json!({ "type": "thinking", "thinking": reasoning.text, "signature": signature })
                }
                (None, None) => return Ok(()),
            };
            message.blocks.push(block);
        }
        (Part::Text(text) | Part::Refusal(text), Role::Assistant) => message.blocks.extend(text_block(text)),
        (_, Role::Assistant) => return Err(unsupported(path())),
        (part, Role::User) => message.blocks.extend(user_block(part, &path)?),
    }
    Ok(())
}

fn text_block(text: &str) -> Option<Value> {
    (!text.is_empty()).then(|| json!({ "type": "text", "text": text }))
}

/// A block of the user's or of a tool's result; `None` for an empty text.
fn user_block(part: &Part, path: &impl Fn() -> String) -> Result<Option<Value>, RequestError> {
    let (kind, media, name) = match part {
        Part::Text(text) => return Ok(text_block(text)),
        Part::Image(media @ (Media::Base64 { .. } | Media::Url(_))) => ("image", media, None),
        Part::Document { media: Media::Base64 { media_type, .. }, .. } if media_type != "application/pdf" => {
            return Err(invalid(path(), "a PDF or a text, for Anthropic's messages"));
        }
        Part::Document { media, name } => ("document", media, name.as_deref()),
        _ => return Err(unsupported(path())),
    };
    let source = match media {
        Media::Base64 { media_type, data } => {
            json!({ "type": "base64", "media_type": media_type, "data": data })
        }
        Media::Url(url) => json!({ "type": "url", "url": url }),
        Media::Text(text) => json!({ "type": "text", "media_type": "text/plain", "data": text }),
    };
    let mut block = Map::new();
    block.insert("type".to_owned(), kind.into());
    block.insert("source".to_owned(), source);
    if let Some(name) = name {
        block.insert("title".to_owned(), name.into());
    }
    Ok(Some(Value::Object(block)))
}

/// `None` where the arguments are no JSON object.
fn tool_use(call: &ToolCall) -> Option<Value> {
    let input = match call.arguments.trim() {
        "" => Value::Object(Map::new()),
        arguments => serde_json::from_str(arguments).ok().filter(Value::is_object)?,
    };
    Some(json!({ "type": "tool_use", "id": tool_id(&call.id), "name": call.name, "input": input }))
}

/// The id in the characters that Anthropic accepts (`^[a-zA-Z0-9_-]+$`); another one is written as its code after `_`. Some
/// servers make ids like `functions.search:0`.
fn tool_id(id: &str) -> Cow<'_, str> {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.bytes().all(is_valid) {
        return Cow::Borrowed(id);
    }
    let mut written = String::from("toolu_");
    for byte in id.bytes() {
        if is_valid(byte) {
            written.push(char::from(byte));
        } else {
            let _ = write!(written, "_{byte:02x}");
        }
    }
    Cow::Owned(written)
}
