//! Reads from the messages of a request what the model has to be able to process: text, images, a prefill.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::presence::Presence;

/// A part of a message's content.
pub(in crate::openai) enum ContentPart<'a> {
    /// Text, as written in the body.
    Text(&'a str),
    Image,
    Other,
}

impl ContentPart<'_> {
    pub(in crate::openai) fn is_image(&self) -> bool {
        matches!(self, Self::Image)
    }

    pub(in crate::openai) fn text_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Image | Self::Other => 0,
        }
    }
}

/// The parts of all messages. Messages of an unknown shape have none; the model server rejects them.
pub(super) fn parts<'a>(messages: &'a str) -> Vec<ContentPart<'a>> {
    #[derive(Deserialize)]
    struct Message<'m> {
        #[serde(borrow, default)]
        content: Option<&'m RawValue>,
    }

    let messages: Vec<Message<'a>> = serde_json::from_str(messages).unwrap_or_default();
    let contents = messages.iter().filter_map(|message| message.content.map(RawValue::get));
    contents.flat_map(of_content).collect()
}

/// The parts of one message's content: a string, or a list of parts.
pub(in crate::openai) fn of_content(content: &str) -> Vec<ContentPart<'_>> {
    #[derive(Deserialize)]
    struct Written<'w> {
        #[serde(rename = "type", default)]
        kind: String,
        #[serde(borrow, default)]
        text: Option<&'w RawValue>,
    }

    // Text is the common case and can be long, so it is recognized by its first byte.
    if !content.starts_with('[') {
        return vec![ContentPart::Text(content)];
    }
    let written: Vec<Written<'_>> = serde_json::from_str(content).unwrap_or_default();
    let parts = written.into_iter().map(|written| match (written.kind.as_str(), written.text) {
        ("image_url" | "input_image" | "image", _) => ContentPart::Image,
        (_, Some(text)) => ContentPart::Text(text.get()),
        _ => ContentPart::Other,
    });
    parts.collect()
}

/// Whether the last message is the assistant's, so that the model continues it. A message that calls tools is not continued.
pub(super) fn ends_with_assistant(messages: &str) -> bool {
    #[derive(Deserialize)]
    struct Message {
        #[serde(default)]
        role: String,
        #[serde(default)]
        tool_calls: Presence,
    }

    let messages: Vec<Message> = serde_json::from_str(messages).unwrap_or_default();
    messages.last().is_some_and(|last| last.role == "assistant" && !last.tool_calls.0)
}
