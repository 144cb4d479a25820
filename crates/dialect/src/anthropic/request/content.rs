//! Reads from the content of a request what the model has to be able to process: text, images, a prefill. Content of an
//! unknown shape has none of them; the model server rejects it.

use serde::Deserialize;
use serde_json::value::RawValue;

/// How deep content may be nested: a message, a tool's result, a document, its blocks.
const MAX_DEPTH: u8 = 4;

/// What the content of a request has.
#[derive(Default)]
pub(super) struct Summary {
    /// Bytes of its texts, as written in the body.
    pub(super) text_bytes: usize,
    /// Whether it has images, or documents that the model reads as images (PDF).
    pub(super) has_images: bool,
    /// Whether the last message is the assistant's, so that the model continues it. One that calls tools is not continued.
    pub(super) ends_with_assistant: bool,
}

#[derive(Deserialize)]
struct Message<'m> {
    #[serde(default)]
    role: String,
    #[serde(borrow, default)]
    content: Option<&'m RawValue>,
}

#[derive(Deserialize)]
struct Block<'b> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(borrow, default)]
    text: Option<&'b RawValue>,
    #[serde(borrow, default)]
    content: Option<&'b RawValue>,
    #[serde(borrow, default)]
    source: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Source<'s> {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(borrow, default)]
    data: Option<&'s RawValue>,
    #[serde(borrow, default)]
    content: Option<&'s RawValue>,
}

impl Summary {
    /// Adds the value of `messages`.
    pub(super) fn add_messages(&mut self, messages: &str) {
        let messages: Vec<Message<'_>> = serde_json::from_str(messages).unwrap_or_default();
        for content in messages.iter().filter_map(|message| message.content) {
            self.add_content(content.get());
        }
        let calls_tools = |content: &str| blocks(content).iter().any(|block| block.kind == "tool_use");
        self.ends_with_assistant = messages.last().is_some_and(|last| {
            last.role == "assistant" && !last.content.is_some_and(|content| calls_tools(content.get()))
        });
    }

    /// Adds a text or a list of blocks.
    pub(super) fn add_content(&mut self, content: &str) {
        self.add(content, 0);
    }

    fn add(&mut self, content: &str, depth: u8) {
        if depth > MAX_DEPTH {
            return;
        }
        // Text is the common case and can be long, so it is recognized by its first byte.
        if content.starts_with('"') {
            self.text_bytes = self.text_bytes.saturating_add(content.len());
            return;
        }
        let deeper = depth.saturating_add(1);
        for block in blocks(content) {
            match block.kind.as_str() {
                "image" => self.has_images = true,
                "document" => self.add_document(block.source, deeper),
                _ => {
                    for inner in [block.text, block.content].into_iter().flatten() {
                        self.add(inner.get(), deeper);
                    }
                }
            }
        }
    }

    fn add_document(&mut self, source: Option<&RawValue>, depth: u8) {
        let source = source.and_then(|source| serde_json::from_str::<Source<'_>>(source.get()).ok());
        let Some(source) = source else { return };
        let inner = match source.kind.as_str() {
            "text" => source.data,
            "content" => source.content,
            _ => {
                self.has_images = true;
                None
            }
        };
        if let Some(inner) = inner {
            self.add(inner.get(), depth);
        }
    }
}

fn blocks(content: &str) -> Vec<Block<'_>> {
    if content.starts_with('[') { serde_json::from_str(content).unwrap_or_default() } else { Vec::new() }
}

/// Whether a `tool_choice` is `{"type": "none"}`.
pub(super) fn forbids_tools(choice: &str) -> bool {
    #[derive(Deserialize)]
    struct Choice {
        #[serde(rename = "type", default)]
        kind: String,
    }

    serde_json::from_str(choice).is_ok_and(|Choice { kind }| kind == "none")
}
