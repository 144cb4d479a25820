//! The fields of a Responses request that decisions depend on.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    fields::Fields,
    openai::messages::{self, ContentPart},
    presence::Presence,
    wants::Wants,
};

/// The keys that decisions depend on.
pub(crate) const DECIDED: [&str; 12] = [
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

/// What the request needs of the model.
pub(crate) fn wants(fields: &Fields) -> Wants {
    let instructions = fields.get("instructions").map_or(0, str::len);
    let input = fields.get("input").unwrap_or_default();
    let items = if input.starts_with('[') { items(input) } else { Vec::new() };
    let parts: Vec<ContentPart<'_>> = items.iter().flat_map(Item::parts).collect();
    let text = if input.starts_with('"') { input.len() } else { 0 };
    let Presence(has_tools) = fields.read("tools").unwrap_or_default();
    Wants {
        tools: has_tools && fields.get("tool_choice") != Some("\"none\""),
        images: parts.iter().any(ContentPart::is_image),
        prefill: items.last().is_some_and(|last| last.role.as_deref() == Some("assistant")),
        text_bytes: parts.iter().map(ContentPart::text_bytes).sum::<usize>() + text + instructions,
    }
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
    use crate::{Operation, Request, RequestError, Wants};

    fn try_read(body: &str) -> Result<Request, RequestError> {
        Request::read(Operation::Responses, body.to_owned().into())
    }

    fn read(body: &str) -> Request {
        try_read(body).unwrap()
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
            (fields.model.as_deref(), fields.stream, fields.include_usage),
            (Some("claude"), true, true)
        );
        assert_eq!(fields.choices, 1);
        let text_bytes = 10 + 5 + 4 + 5 + 3;
        assert_eq!(fields.wants(), Wants { tools: true, images: true, prefill: false, text_bytes });
        assert_eq!(read(r#"{"input":"abc"}"#).wants().text_bytes, 5);
        assert!(!read(r#"{"tools":[{}],"tool_choice":"none"}"#).wants().tools);
        assert!(read(r#"{"input":[{"role":"user"},{"role":"assistant","content":"Once"}]}"#).wants().prefill);
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
            assert_eq!(try_read(body).unwrap_err().param(), Some(param), "{body}");
        }
    }
}
