//! Estimates how many tokens the input of a request takes, where the provider of the model has no counter. The real number
//! depends on the model's tokenizer and may differ by a third.
//!
//! | input | tokens |
//! |---|---|
//! | text, JSON of tools and of their calls | 4 ASCII characters each; half a token for a character of 2 bytes in UTF-8, one for a longer one |
//! | a message, a block, a tool | 4 more |
//! | an image | width × height / 750 after scaling to 1568 pixels, Anthropic's formula; 1600 where the size is not known |
//! | a document that is no text | 3000 for each 100 000 characters of base64 |

use bytes::Bytes;
use serde_json::Value;

use super::image_size;
use crate::{request_error::RequestError, text_tokens::of_text, translate::fields::Fields};

/// What a message, a block or a tool takes besides its text.
const OVERHEAD: u64 = 4;
/// What an image takes whose size is not known, and at most ("Vision", Anthropic's documentation).
const MAX_IMAGE: u64 = 1600;
/// The longer edge that larger images are scaled to, in pixels.
const MAX_EDGE: u64 = 1568;
const PIXELS_PER_TOKEN: u64 = 750;
const DOCUMENT_BYTES: u64 = 100_000;
const DOCUMENT_TOKENS: u64 = 3000;

/// Estimates the tokens of a messages or token count request. It accepts content that cannot be translated.
///
/// # Errors
/// [`RequestError`] for a body that is not a JSON object, or has no `messages`.
pub fn estimate_tokens(body: &[u8]) -> Result<u64, RequestError> {
    let mut fields = Fields::body(body)?;
    let messages = fields.list("messages")?.ok_or(RequestError::Missing("messages"))?;
    let mut tokens = messages.iter().map(|(_, message)| of_message(message)).fold(0_u64, u64::saturating_add);
    for name in ["system", "tools", "tool_choice", "output_config"] {
        if let Some(value) = fields.take(name) {
            tokens = tokens.saturating_add(match (name, value) {
                ("system", value) => of_content(&value),
                ("tools", Value::Array(tools)) => tools.iter().map(of_json).fold(0, u64::saturating_add),
                (_, value) => of_json(&value),
            });
        }
    }
    Ok(tokens.max(1))
}

/// The answer to a token count request.
pub fn count_body(tokens: u64) -> Bytes {
    Bytes::from(serde_json::json!({ "input_tokens": tokens }).to_string())
}

fn of_message(message: &Value) -> u64 {
    OVERHEAD.saturating_add(message.get("content").map_or(0, of_content))
}

fn of_content(content: &Value) -> u64 {
    match content {
        Value::String(text) => of_text(text),
        Value::Array(blocks) => blocks.iter().map(of_block).fold(0, u64::saturating_add),
        other => of_json(other),
    }
}

fn of_block(block: &Value) -> u64 {
    let text = |name: &str| block.get(name).and_then(Value::as_str).map_or(0, of_text);
    let content = || block.get("content").map_or(0, of_content);
    let tokens = match block.get("type").and_then(Value::as_str) {
        Some("text") => text("text"),
        Some("thinking") => text("thinking"),
        // Encrypted; the provider alone knows what it holds.
        Some("redacted_thinking") => 0,
        Some("image") => block.get("source").map_or(MAX_IMAGE, of_image),
        Some("document") => text("title").saturating_add(block.get("source").map_or(0, of_document)),
        Some("tool_result") => content(),
        _ => of_json(block),
    };
    tokens.saturating_add(OVERHEAD)
}

fn of_image(source: &Value) -> u64 {
    let size = source.get("data").and_then(Value::as_str).and_then(image_size::of_base64);
    let Some((width, height)) = size else { return MAX_IMAGE };
    let longer = width.max(height).max(MAX_EDGE);
    let scaled = |edge: u64| edge.saturating_mul(MAX_EDGE).checked_div(longer).unwrap_or(edge);
    (scaled(width).saturating_mul(scaled(height)) / PIXELS_PER_TOKEN).clamp(1, MAX_IMAGE)
}

fn of_document(source: &Value) -> u64 {
    let data = source.get("data").and_then(Value::as_str);
    match (source.get("type").and_then(Value::as_str), data) {
        (Some("text"), Some(text)) => of_text(text),
        (Some("base64"), Some(data)) => {
            let bytes = u64::try_from(data.len()).unwrap_or(u64::MAX);
            bytes.div_ceil(DOCUMENT_BYTES).saturating_mul(DOCUMENT_TOKENS)
        }
        (Some("content"), _) => source.get("content").map_or(0, of_content),
        _ => DOCUMENT_TOKENS,
    }
}

fn of_json(value: &Value) -> u64 {
    OVERHEAD.saturating_add(of_text(&value.to_string()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn estimate(request: &Value) -> u64 {
        estimate_tokens(request.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn texts_tools_images_and_documents_are_counted() {
        let of = |content: Value| {
            estimate(&json!({ "messages": [{ "role": "user", "content": content }] })) - OVERHEAD
        };
        let block = |block: Value| of(json!([block])) - OVERHEAD;
        let png = "iVBORw0KGgoAAAANSUhEUgAAAyAAAAJYCAYAAADRXFXA";
        for (expected, written) in [
            (2, json!({ "type": "text", "text": "12345678" })),
            (3, json!({ "type": "text", "text": "123456789" })),
            (4, json!({ "type": "text", "text": "äöü模型" })),
            (800 * 600 / 750, json!({ "type": "image", "source": { "type": "base64", "data": png } })),
            (1600, json!({ "type": "image", "source": { "type": "url", "url": "https://example.com" } })),
            (3000, json!({ "type": "document", "source": { "type": "base64", "data": "AAAA" } })),
            (
                6000,
                json!({ "type": "document", "source": { "type": "base64", "data": "A".repeat(100_001) } }),
            ),
            (1, json!({ "type": "document", "source": { "type": "text", "data": "abcd" } })),
            (2, json!({ "type": "tool_result", "tool_use_id": "t", "content": "12345678" })),
            (0, json!({ "type": "redacted_thinking", "data": "x".repeat(1000) })),
        ] {
            assert_eq!(block(written.clone()), expected, "{written}");
        }
        assert_eq!(of(json!("12345678")), 2);
        let tool = json!({ "name": "f", "input_schema": { "type": "object" } });
        let with_tools = estimate(&json!({ "messages": [], "system": "abcd", "tools": [tool] }));
        assert_eq!(with_tools, 1 + OVERHEAD + of_text(&tool.to_string()));
        assert_eq!(estimate(&json!({ "messages": [] })), 1);
        assert_eq!(estimate_tokens(b"{}").unwrap_err().param(), Some("messages"));
        assert_eq!(count_body(14), r#"{"input_tokens":14}"#);
    }
}
