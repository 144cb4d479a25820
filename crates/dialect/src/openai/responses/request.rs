//! Reads the fields of a Responses request that decisions depend on.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::openai::request::{
    RequestError, RequestFields, keys,
    messages::{self, ContentPart},
    object::Object,
};

/// The keys that decisions depend on.
const DECIDED: [&str; 12] = [
    "model",
    "stream",
    "input",
    "instructions",
    "max_output_tokens",
    "tools",
    "tool_choice",
    "store",
    "previous_response_id",
    "conversation",
    "background",
    "prompt",
];

/// Reads the fields of a Responses request. A stream always ends in usage, and there is always one choice.
///
/// # Errors
/// [`RequestError`] for a body that is not a JSON object, and for a field that has a wrong type, occurs twice, or is spelled in
/// another way.
pub fn read_fields(body: &[u8]) -> Result<RequestFields, RequestError> {
    let object = Object::read_deciding(body, &DECIDED)?;
    object.number("max_output_tokens")?;
    let instructions = object.get("instructions")?.map_or(0, |written| written.value.len());
    let input = object.get("input")?.map_or("", |written| written.value);
    let items = if input.starts_with('[') { items(input) } else { Vec::new() };
    let parts: Vec<ContentPart<'_>> = items.iter().flat_map(Item::parts).collect();
    let text = if input.starts_with('"') { input.len() } else { 0 };
    Ok(RequestFields {
        model: object.model()?,
        stream: object.bool("stream", "stream")?,
        include_usage: true,
        n: 1,
        has_tools: object.is_present("tools")? && !object.is_exactly("tool_choice", "\"none\"")?,
        has_images: parts.iter().any(ContentPart::is_image),
        has_prefill: items.last().is_some_and(|last| last.role.as_deref() == Some("assistant")),
        text_bytes: parts.iter().map(ContentPart::text_bytes).sum::<usize>() + text + instructions,
        routing_keys: keys::routing_keys(&object.members),
    })
}

/// An item of `input`: a message, or the output of a tool.
#[derive(Deserialize)]
struct Item<'a> {
    #[serde(default)]
    role: Option<String>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    output: Option<&'a RawValue>,
}

impl<'a> Item<'a> {
    fn parts(&self) -> Vec<ContentPart<'a>> {
        [self.content, self.output]
            .into_iter()
            .flatten()
            .flat_map(|raw| messages::of_content(raw.get()))
            .collect()
    }
}

/// Items of an unknown shape have no parts; the model server rejects them.
fn items(input: &str) -> Vec<Item<'_>> {
    serde_json::from_str(input).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> RequestFields {
        read_fields(body.as_bytes()).unwrap()
    }

    #[test]
    fn every_field_is_read() {
        let fields = read(
            r#"{"model":"claude","stream":true,"instructions":"be brief","tools":[{"type":"function"}],
            "input":[{"role":"user","content":"abc"},
            {"type":"message","role":"user","content":[{"type":"input_text","text":"de"},{"type":"input_image","image_url":"data:"}]},
            {"type":"function_call","call_id":"c","name":"f","arguments":"{}"},
            {"type":"function_call_output","call_id":"c","output":"fgh"},
            {"type":"function_call_output","call_id":"c","output":[{"type":"input_text","text":"i"}]}]}"#,
        );
        assert_eq!(
            fields,
            RequestFields {
                model: Some("claude".into()),
                stream: true,
                include_usage: true,
                n: 1,
                has_tools: true,
                has_images: true,
                has_prefill: false,
                text_bytes: 10 + 5 + 4 + 5 + 3,
                routing_keys: Vec::new(),
            }
        );
        assert_eq!(read(r#"{"input":"abc"}"#).text_bytes, 5);
        assert!(!read(r#"{"tools":[{}],"tool_choice":"none"}"#).has_tools);
        assert!(read(r#"{"input":[{"role":"user"},{"role":"assistant","content":"Once"}]}"#).has_prefill);
        assert_eq!(read(r#"{"input":[7],"fallbacks":["x"]}"#).routing_keys, ["fallbacks"]);
    }

    #[test]
    fn wrong_and_strange_keys_are_rejected() {
        for (body, param) in [
            (r#"{"Input":"a"}"#, "Input"),
            (r#"{"previousResponseId":"r"}"#, "previousResponseId"),
            (r#"{"\u0073tore":true}"#, "store"),
            (r#"{"model":"a","model":"b"}"#, "model"),
            (r#"{"stream":"yes"}"#, "stream"),
            (r#"{"max_output_tokens":"9"}"#, "max_output_tokens"),
        ] {
            assert_eq!(read_fields(body.as_bytes()).unwrap_err().param(), Some(param), "{body}");
        }
    }
}
