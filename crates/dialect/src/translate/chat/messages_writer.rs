//! Writes the messages of a request for a chat completion, in the forms that most compatible servers accept.
//!
//! - The instructions are one message, because templates of models reject a second one.
//! - A tool's result is text. Its images and documents follow in a message of the user, after all results of that turn, and
//!   text before them names the call. A failed call's text begins with `Error:`, which chat completions have no field for.
//! - Reasoning goes back as `reasoning_content`, unless it is signed or encrypted: then another provider wrote it, for itself.

use serde_json::{Map, Value, json};

use super::wire::tool_call;
use crate::{
    request_error::RequestError,
    translate::conversation::{Conversation, Media, Part, Role, Turn},
};

/// The name of this API in errors.
const API: &str = "OpenAI's chat completions";

/// The messages, as a list.
pub(super) fn write(conversation: &Conversation) -> Result<Value, RequestError> {
    let mut messages = Vec::new();
    if !conversation.system.is_empty() {
        let texts = texts(&conversation.system, "\n\n", || "system".to_owned())?;
        messages.push(json!({ "role": "system", "content": texts }));
    }
    for turn in &conversation.turns {
        match turn.role {
            Role::User => user(turn, &mut messages)?,
            Role::Assistant => messages.push(assistant(turn)?),
        }
    }
    Ok(Value::Array(messages))
}

fn unsupported(path: String) -> RequestError {
    RequestError::Unsupported { param: path, api: API }
}

/// Parts that must be texts, joined.
fn texts(parts: &[Part], between: &str, path: impl Fn() -> String) -> Result<String, RequestError> {
    let texts: Result<Vec<&str>, _> = parts
        .iter()
        .map(|part| match part {
            Part::Text(text) => Ok(text.as_str()),
            _ => Err(unsupported(path())),
        })
        .collect();
    Ok(texts?.join(between))
}

/// The messages of a user's turn: one for each tool's result, then one for the rest.
fn user(turn: &Turn, messages: &mut Vec<Value>) -> Result<(), RequestError> {
    let mut rest = Vec::new();
    for (index, part) in turn.parts.iter().enumerate() {
        let path = || turn.part_path(index);
        match part {
            Part::ToolResult { call, parts, is_error } => {
                let (text, media): (Vec<Part>, Vec<Part>) =
                    parts.iter().cloned().partition(|part| matches!(part, Part::Text(_)));
                let mut text = texts(&text, "\n", path)?;
                if *is_error && !text.to_lowercase().starts_with("error") {
                    text = format!("Error: {text}");
                }
                if !media.is_empty() {
                    if text.is_empty() {
                        "The result follows in the next message.".clone_into(&mut text);
                    }
                    rest.push(text_part(&format!("The result of the tool call `{call}`:")));
                    for part in &media {
                        rest.push(user_part(part, &path)?);
                    }
                }
                messages.push(json!({ "role": "tool", "tool_call_id": call, "content": text }));
            }
            part => rest.push(user_part(part, &path)?),
        }
    }
    if rest.is_empty() {
        return Ok(());
    }
    // A single text is written as one, which every server accepts.
    let content = match (rest.as_slice(), turn.parts.as_slice()) {
        ([_], [Part::Text(text)]) => text.as_str().into(),
        _ => Value::Array(rest),
    };
    messages.push(json!({ "role": "user", "content": content }));
    Ok(())
}

fn text_part(text: &str) -> Value {
    json!({ "type": "text", "text": text })
}

fn user_part(part: &Part, path: &impl Fn() -> String) -> Result<Value, RequestError> {
    Ok(match part {
        Part::Text(text) => text_part(text),
        Part::Image(Media::Url(url)) => json!({ "type": "image_url", "image_url": { "url": url } }),
        Part::Image(Media::Base64 { media_type, data }) => {
            json!({ "type": "image_url", "image_url": { "url": data_url(media_type, data) } })
        }
        Part::Audio(Media::Base64 { media_type, data }) => {
            let format = match media_type.as_str() {
                "audio/wav" | "audio/x-wav" | "audio/wave" => "wav",
                "audio/mpeg" | "audio/mp3" => "mp3",
                _ => return Err(unsupported(path())),
            };
            json!({ "type": "input_audio", "input_audio": { "data": data, "format": format } })
        }
        Part::Document { media: Media::Base64 { media_type, data }, name } => {
            let mut file = Map::new();
            // OpenAI requires a name.
            file.insert("filename".to_owned(), name.as_deref().unwrap_or("document").into());
            file.insert("file_data".to_owned(), data_url(media_type, data).into());
            json!({ "type": "file", "file": file })
        }
        Part::Document { media: Media::Text(text), name } => match name {
            Some(name) => text_part(&format!("{name}\n\n{text}")),
            None => text_part(text),
        },
        _ => return Err(unsupported(path())),
    })
}

fn data_url(media_type: &str, data: &str) -> String {
    format!("data:{media_type};base64,{data}")
}

fn assistant(turn: &Turn) -> Result<Value, RequestError> {
    let (mut text, mut refusal, mut reasoning) = (String::new(), String::new(), String::new());
    let mut calls = Vec::new();
    for (index, part) in turn.parts.iter().enumerate() {
        match part {
            // The blocks of one answer are one text.
            Part::Text(more) => text.push_str(more),
            Part::Refusal(more) => refusal.push_str(more),
            Part::ToolCall(call) => calls.push(tool_call(call)),
            Part::Reasoning(block) if block.signature.is_none() && block.encrypted.is_none() => {
                reasoning.push_str(&block.text);
            }
            Part::Reasoning(_) => {}
            _ => return Err(unsupported(turn.part_path(index))),
        }
    }
    let mut message = Map::new();
    message.insert("role".to_owned(), "assistant".into());
    if !reasoning.is_empty() {
        message.insert("reasoning_content".to_owned(), reasoning.into());
    }
    let without_content = text.is_empty() && !(calls.is_empty() && refusal.is_empty());
    message.insert("content".to_owned(), if without_content { Value::Null } else { text.into() });
    if !refusal.is_empty() {
        message.insert("refusal".to_owned(), refusal.into());
    }
    if !calls.is_empty() {
        message.insert("tool_calls".to_owned(), Value::Array(calls));
    }
    Ok(Value::Object(message))
}
