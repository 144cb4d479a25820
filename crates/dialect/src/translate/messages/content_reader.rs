//! Reads the content of a request's messages: texts, images, documents, calls of tools and their results, reasoning.

use serde_json::Value;

use crate::{
    request_error::RequestError,
    translate::{
        conversation::{Conversation, Media, Part, Reasoning, Role, ToolCall, Turn},
        fields::{Fields, entries},
    },
};

/// Marks for the prompt cache, which change cost and speed only.
const HINTS: [&str; 1] = ["cache_control"];

/// Where a block stands, which decides what it may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Instructions,
    User,
    Assistant,
    ToolResult,
}

/// Takes `system`.
pub(super) fn read_system(fields: &mut Fields) -> Result<Vec<Part>, RequestError> {
    content(fields, "system", Place::Instructions).map(parts)
}

/// Adds the messages to the conversation. Messages of the role `system` become instructions, wherever they stand.
pub(super) fn read_messages(
    messages: Vec<(String, Value)>,
    conversation: &mut Conversation,
) -> Result<(), RequestError> {
    for (path, message) in messages {
        let mut message = Fields::of(path.clone(), message)?;
        let (place, role) = match message.required_text("role")?.as_str() {
            "user" => (Place::User, Role::User),
            "assistant" => (Place::Assistant, Role::Assistant),
            "system" if message.has("content") => {
                let texts = content(&mut message, "content", Place::Instructions)?;
                conversation.system.extend(parts(texts));
                message.finish()?;
                continue;
            }
            "system" => return Err(message.wrong("content", "a string or a list of blocks")),
            _ => return Err(message.wrong("role", "`user`, `assistant` or `system`")),
        };
        if !message.has("content") {
            return Err(message.wrong("content", "a string or a list of blocks"));
        }
        let mut turn = Turn::at(role, path);
        turn.extend(content(&mut message, "content", place)?);
        message.finish()?;
        conversation.turns.push(turn);
    }
    Ok(())
}

fn parts(placed: Vec<(String, Part)>) -> Vec<Part> {
    placed.into_iter().map(|(_, part)| part).collect()
}

/// One text, or a list of blocks, with their paths. Absent content has no parts.
fn content(fields: &mut Fields, name: &str, place: Place) -> Result<Vec<(String, Part)>, RequestError> {
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![(fields.path(name), Part::Text(text))]),
        Some(Value::Array(list)) => {
            let blocks = entries(&fields.path(name), list).into_iter();
            let read =
                |(path, value): (String, Value)| Ok((path.clone(), block(Fields::of(path, value)?, place)?));
            blocks.map(read).collect()
        }
        Some(_) => Err(fields.wrong(name, "a string or a list of blocks")),
    }
}

fn block(mut fields: Fields, place: Place) -> Result<Part, RequestError> {
    fields.drop_hints(&HINTS);
    let kind = fields.required_text("type")?;
    let part = match (kind.as_str(), place) {
        ("text", _) => text(&mut fields)?,
        ("image", Place::User | Place::ToolResult) => Part::Image(image(&mut fields)?),
        ("document", Place::User | Place::ToolResult) => document(&mut fields)?,
        ("tool_result", Place::User) => Part::ToolResult {
            call: fields.required_text("tool_use_id")?,
            parts: parts(content(&mut fields, "content", Place::ToolResult)?),
            is_error: fields.bool("is_error")?.unwrap_or(false),
        },
        ("tool_use", Place::Assistant) => Part::ToolCall(tool_use(&mut fields)?),
        ("thinking", Place::Assistant) => Part::Reasoning(Reasoning {
            text: fields.required_text("thinking")?,
            // Reasoning of a model of another dialect has no signature.
            signature: fields.text("signature")?.filter(|signature| !signature.is_empty()),
            encrypted: None,
        }),
        ("redacted_thinking", Place::Assistant) => Part::Reasoning(Reasoning {
            encrypted: Some(fields.required_text("data")?),
            ..Reasoning::default()
        }),
        ("image" | "document" | "tool_result" | "tool_use" | "thinking" | "redacted_thinking", _) => {
            return Err(fields.wrong("type", "a block that may stand here"));
        }
        _ => return Err(fields.untranslatable("type")),
    };
    fields.finish()?;
    Ok(part)
}

fn text(fields: &mut Fields) -> Result<Part, RequestError> {
    // Citations of an earlier answer; an empty list cites nothing.
    if fields.take("citations").is_some_and(|value| value != Value::Array(Vec::new())) {
        return Err(fields.untranslatable("citations"));
    }
    Ok(Part::Text(fields.required_text("text")?))
}

/// Takes `source` and its type.
fn source(fields: &mut Fields) -> Result<(Fields, String), RequestError> {
    let mut source = fields.object("source")?.ok_or_else(|| fields.wrong("source", "an object"))?;
    let kind = source.required_text("type")?;
    Ok((source, kind))
}

fn base64(source: &mut Fields) -> Result<Media, RequestError> {
    Ok(Media::Base64 { media_type: source.required_text("media_type")?, data: source.required_text("data")? })
}

fn image(fields: &mut Fields) -> Result<Media, RequestError> {
    if let Some(mut transformations) = fields.object("transformations")? {
        // Every provider scales large images down; to fail instead is a wish of its own.
        if transformations.text("oversized_image")?.is_some_and(|what| what != "downsize") {
            return Err(transformations.untranslatable("oversized_image"));
        }
        transformations.finish()?;
    }
    let (mut source, kind) = source(fields)?;
    let media = match kind.as_str() {
        "base64" => base64(&mut source)?,
        "url" => Media::Url(source.required_text("url")?),
        _ => return Err(untranslatable_source(&source, &kind)),
    };
    source.finish()?;
    Ok(media)
}

fn untranslatable_source(source: &Fields, kind: &str) -> RequestError {
    if kind != "file" {
        return source.untranslatable("type");
    }
    let reason = "is `file`: it refers to a file, but the provider of this model keeps none";
    source.refused("type", reason, "send the file itself, as `base64` or by a URL")
}

fn document(fields: &mut Fields) -> Result<Part, RequestError> {
    let (mut source, kind) = source(fields)?;
    let media = match kind.as_str() {
        "base64" => base64(&mut source)?,
        "url" => Media::Url(source.required_text("url")?),
        "text" => {
            source.drop_hints(&["media_type"]);
            Media::Text(source.required_text("data")?)
        }
        "content" => Media::Text(plain(&mut source)?),
        _ => return Err(untranslatable_source(&source, &kind)),
    };
    source.finish()?;
    let name = fields.text("title")?;
    if let Some(mut citations) = fields.object("citations")? {
        if citations.bool("enabled")? == Some(true) {
            return Err(citations.untranslatable("enabled"));
        }
        citations.finish()?;
    }
    Ok(Part::Document { media, name })
}

/// The content of a document that is given as blocks, which must be texts.
fn plain(source: &mut Fields) -> Result<String, RequestError> {
    let blocks = content(source, "content", Place::Instructions)?;
    let texts = parts(blocks).into_iter().filter_map(|part| match part {
        Part::Text(text) => Some(text),
        _ => None,
    });
    Ok(texts.collect::<Vec<_>>().join("\n\n"))
}

fn tool_use(fields: &mut Fields) -> Result<ToolCall, RequestError> {
    let arguments = match fields.take("input") {
        None => "{}".to_owned(),
        Some(input @ Value::Object(_)) => input.to_string(),
        Some(_) => return Err(fields.wrong("input", "an object")),
    };
    // Who called: only calls of the model itself are known elsewhere.
    if let Some(mut caller) = fields.object("caller")? {
        if caller.required_text("type")? != "direct" {
            return Err(caller.untranslatable("type"));
        }
        caller.finish()?;
    }
    Ok(ToolCall { id: fields.required_text("id")?, name: fields.required_text("name")?, arguments })
}
