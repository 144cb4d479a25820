//! The messages of requests that benchmarks send, of each size.

use serde_json::{Value, json};

/// A sentence of about so many bytes.
pub fn question(bytes: usize) -> Value {
    json!([{"role": "user", "content": "How many words has this? ".repeat(bytes / 25 + 1)}])
}

/// A conversation of about so many bytes, with the escapes that source code in a prompt has.
pub fn conversation(bytes: usize) -> Value {
    let code = "fn main() {\n\tprintln!(\"{}\", \"a \\\"quoted\\\" word\");\n}\n".repeat(20);
    let turns = bytes / (code.len() + code.len() / 8 + 40);
    let turn =
        |at: usize| json!({"role": if at.is_multiple_of(2) { "user" } else { "assistant" }, "content": code});
    (0..=turns / 2 * 2).map(turn).collect()
}

/// A question about an image of about so many bytes.
pub fn image(bytes: usize) -> Value {
    let url = format!("data:image/png;base64,{}", "iVBORw0KGgoAAAAN".repeat(bytes / 16));
    json!([{"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]}])
}
