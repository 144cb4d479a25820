//! Builds the items of an answer's `output`, for whole answers and for the events that begin and end an item.

use serde_json::{Map, Value, json};

use super::{reasoning::sealed, tools};
use crate::translate::conversation::{CallForm, CallKind, Reasoning, ToolCall};

/// The state of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    InProgress,
    Completed,
    /// The answer ended within it.
    Incomplete,
}

impl Status {
    const fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// A message; its parts are [`text`] and [`refusal`].
pub(super) fn message(id: &str, content: Vec<Value>, status: Status) -> Value {
    json!({ "type": "message", "id": id, "status": status.name(), "role": "assistant", "content": content })
}

/// A part of text. `logprobs` are those of a chat completion.
pub(super) fn text(text: &str, logprobs: Vec<Value>) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": logprobs })
}

/// A part that refuses to answer.
pub(super) fn refusal(text: &str) -> Value {
    json!({ "type": "refusal", "refusal": text })
}

/// Reasoning, its text as the summary.
pub(super) fn reasoning(id: &str, block: &Reasoning, status: Status) -> Value {
    let summary = if block.text.is_empty() { json!([]) } else { json!([summary(&block.text)]) };
    let mut item = Map::new();
    item.insert("type".to_owned(), "reasoning".into());
    item.insert("id".to_owned(), id.into());
    item.insert("status".to_owned(), status.name().into());
    item.insert("summary".to_owned(), summary);
    if let Some(sealed) = sealed(block) {
        item.insert("encrypted_content".to_owned(), sealed.into());
    }
    Value::Object(item)
}

/// A part of a summary.
pub(super) fn summary(text: &str) -> Value {
    json!({ "type": "summary_text", "text": text })
}

/// The prefix of a call's id.
pub(super) const fn call_prefix(kind: CallKind) -> &'static str {
    match kind {
        CallKind::Function => "fc",
        CallKind::Custom => "ctc",
        CallKind::ToolSearch => "tsc",
    }
}

/// The form of the calls of a function.
pub(super) fn form_of<'a>(function: &str, forms: &'a [CallForm]) -> Option<&'a CallForm> {
    forms.iter().find(|form| form.function == function)
}

/// A call, in the form in which the caller knows the tool.
pub(super) fn call(id: &str, call: &ToolCall, form: Option<&CallForm>, status: Status) -> Value {
    let kind = form.map_or(CallKind::Function, |form| form.kind);
    let name = form.map_or(call.name.as_str(), |form| form.name.as_str());
    let mut item = match kind {
        CallKind::Function => json!({ "type": "function_call", "id": id, "status": status.name(),
            "call_id": call.id, "name": name, "arguments": call.arguments }),
        CallKind::Custom => json!({ "type": "custom_tool_call", "id": id, "status": status.name(),
            "call_id": call.id, "name": name, "input": free_text(&call.arguments) }),
        CallKind::ToolSearch => {
            let arguments: Value = serde_json::from_str(&call.arguments).unwrap_or_else(|_| json!({}));
            json!({ "type": "tool_search_call", "id": id, "status": status.name(), "call_id": call.id,
                "execution": "client", "arguments": arguments })
        }
    };
    if let (Some(namespace), Some(item)) =
        (form.and_then(|form| form.namespace.as_ref()), item.as_object_mut())
    {
        item.insert("namespace".to_owned(), namespace.as_str().into());
    }
    item
}

/// The text for a custom tool: the argument `input`. Models also write the only argument under another name, or the bare text.
pub(super) fn free_text(arguments: &str) -> String {
    let only = |object: &Map<String, Value>| {
        let (value, none) = (object.values().next().cloned(), object.len() != 1);
        value.filter(|_| !none)
    };
    let found = match serde_json::from_str(arguments) {
        Ok(Value::Object(object)) => object.get(tools::INPUT).cloned().or_else(|| only(&object)),
        Ok(text @ Value::String(_)) => Some(text),
        _ => None,
    };
    match found {
        Some(Value::String(text)) => text,
        _ => arguments.to_owned(),
    }
}

/// The probabilities of an answer's tokens: `content` of what a chat completion has, or the list itself.
pub(super) fn logprobs(value: Option<&Value>) -> Vec<Value> {
    let list = value.map(|value| value.get("content").unwrap_or(value));
    list.and_then(Value::as_array).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_text_is_found_however_a_model_writes_it() {
        for arguments in
            [r#"{"input":"a\nb"}"#, r#"{"input":"a\nb","x":1}"#, r#"{"patch":"a\nb"}"#, r#""a\nb""#, "a\nb"]
        {
            assert_eq!(free_text(arguments), "a\nb", "{arguments}");
        }
        assert_eq!(free_text(r#"{"input":7}"#), r#"{"input":7}"#);
    }
}
