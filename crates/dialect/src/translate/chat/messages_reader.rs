//! Reads the messages of a request for a chat completion.

use serde_json::Value;

use super::reasoning;
use crate::{
    request_error::RequestError,
    translate::{
        conversation::{Conversation, Media, Part, Role, ToolCall, Turn},
        fields::{Fields, entries},
    },
};

/// Marks for a prompt cache: OpenAI's, and the one that gateways accept.
const HINTS: [&str; 2] = ["prompt_cache_breakpoint", "cache_control"];

/// Adds the messages to the conversation.
pub(super) fn read(
    messages: Vec<(String, Value)>,
    conversation: &mut Conversation,
) -> Result<(), RequestError> {
    for (path, message) in messages {
        let mut message = Fields::of(path.clone(), message)?;
        let role = message.required_text("role")?;
        match role.as_str() {
            "system" | "developer" => conversation.system.extend(parts(content(&mut message, text_part)?)),
            "user" => {
                let mut turn = Turn::at(Role::User, path);
                turn.extend(content(&mut message, user_part)?);
                conversation.turns.push(turn);
            }
            "assistant" => {
                conversation.turns.push(assistant(path, &mut message)?);
            }
            "tool" => {
                let call = message.required_text("tool_call_id")?;
                // The tool's name, which the call has already.
                message.drop_hints(&["name"]);
                let mut turn = Turn::at(Role::User, path);
                let parts = parts(content(&mut message, text_part)?).collect();
                let result = Part::ToolResult { call, parts, is_error: false };
                turn.extend([(message.path("tool_call_id"), result)]);
                conversation.turns.push(turn);
            }
            // The older calls of functions, which had no ids.
            "function" => return Err(message.untranslatable("role")),
            _ => {
                let expected = "`system`, `developer`, `user`, `assistant` or `tool`";
                return Err(message.wrong("role", expected));
            }
        }
        message.drop_hints(&HINTS);
        message.finish()?;
    }
    Ok(())
}

fn parts(placed: Vec<(String, Part)>) -> impl Iterator<Item = Part> {
    placed.into_iter().map(|(_, part)| part)
}

/// The parts of `content` with their paths: one text, or a list. Absent content has no parts.
fn content(
    message: &mut Fields,
    part: fn(&str, Fields) -> Result<Part, RequestError>,
) -> Result<Vec<(String, Part)>, RequestError> {
    match message.take("content") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![(message.path("content"), Part::Text(text))]),
        Some(Value::Array(list)) => {
            let parts = entries(&message.path("content"), list).into_iter().map(|(path, value)| {
                let mut fields = Fields::of(path.clone(), value)?;
                fields.drop_hints(&HINTS);
                let kind = fields.required_text("type")?;
                Ok((path, part(&kind, fields)?))
            });
            parts.collect()
        }
        Some(_) => Err(message.wrong("content", "a string or a list of parts")),
    }
}

fn text_part(kind: &str, mut fields: Fields) -> Result<Part, RequestError> {
    if kind != "text" {
        return Err(fields.wrong("type", "`text`"));
    }
    let text = fields.required_text("text")?;
    fields.finish()?;
    Ok(Part::Text(text))
}

fn assistant_part(kind: &str, mut fields: Fields) -> Result<Part, RequestError> {
    if kind != "refusal" {
        return text_part(kind, fields);
    }
    let text = fields.required_text("refusal")?;
    fields.finish()?;
    Ok(Part::Refusal(text))
}

fn user_part(kind: &str, mut fields: Fields) -> Result<Part, RequestError> {
    let mut inner = match kind {
        "text" => return text_part(kind, fields),
        "image_url" | "input_audio" | "file" => {
            fields.object(kind)?.ok_or_else(|| fields.wrong(kind, "an object"))?
        }
        _ => return Err(fields.untranslatable("type")),
    };
    fields.finish()?;
    let part = match kind {
        "image_url" => {
            let url = inner.required_text("url")?;
            // How many tokens the image takes, which other dialects leave to the provider.
            inner.drop_hints(&["detail"]);
            Part::Image(if url.starts_with("data:") {
                data_url(&url).ok_or_else(|| inner.wrong("url", "a URL or `data:TYPE;base64,DATA`"))?
            } else {
                Media::Url(url)
            })
        }
        "input_audio" => {
            let media_type = match inner.required_text("format")?.as_str() {
                "wav" => "audio/wav",
                "mp3" => "audio/mpeg",
                _ => return Err(inner.wrong("format", "`wav` or `mp3`")),
            };
            let data = inner.required_text("data")?;
            Part::Audio(Media::Base64 { media_type: media_type.to_owned(), data })
        }
        _ => {
            if inner.has("file_id") {
                let reason = "refers to a file, but the provider of this model keeps none";
                return Err(inner.refused("file_id", reason, "send the file itself, in `file_data`"));
            }
            let data = inner.required_text("file_data")?;
            let media = data_url(&data).ok_or_else(|| inner.wrong("file_data", "`data:TYPE;base64,DATA`"))?;
            Part::Document { media, name: inner.text("filename")? }
        }
    };
    inner.finish()?;
    Ok(part)
}

/// The media type and the content of `data:TYPE;base64,DATA`.
fn data_url(url: &str) -> Option<Media> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.strip_suffix(";base64")?.split(';').next()?;
    (!media_type.is_empty())
        .then(|| Media::Base64 { media_type: media_type.to_owned(), data: data.to_owned() })
}

fn assistant(path: String, message: &mut Fields) -> Result<Turn, RequestError> {
    let mut turn = Turn::at(Role::Assistant, path);
    let blocks = reasoning::read_blocks(message)?.into_iter();
    turn.extend(blocks.map(|block| (message.path("reasoning_content"), Part::Reasoning(block))));
    turn.extend(content(message, assistant_part)?);
    let refusal = message.text("refusal")?.map(Part::Refusal);
    turn.extend(refusal.map(|refusal| (message.path("refusal"), refusal)));
    for (path, call) in message.list("tool_calls")?.unwrap_or_default() {
        let call = Part::ToolCall(tool_call(Fields::of(path.clone(), call)?)?);
        turn.extend([(path, call)]);
    }
    // Citations of an earlier answer: an empty list cites nothing.
    if message.take("annotations").is_some_and(|value| value != Value::Array(Vec::new())) {
        return Err(message.untranslatable("annotations"));
    }
    Ok(turn)
}

fn tool_call(mut call: Fields) -> Result<ToolCall, RequestError> {
    let id = call.required_text("id")?;
    if call.text("type")?.is_some_and(|kind| kind != "function") {
        return Err(call.untranslatable("type"));
    }
    // Clients that assemble a message from a stream leave it in.
    call.drop_hints(&["index"]);
    let mut function = call.object("function")?.ok_or_else(|| call.wrong("function", "an object"))?;
    let name = function.required_text("name")?;
    let arguments = function.text("arguments")?.unwrap_or_default();
    function.finish()?;
    call.finish()?;
    Ok(ToolCall { id, name, arguments })
}
