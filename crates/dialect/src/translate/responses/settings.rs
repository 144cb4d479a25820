//! The settings of a request, which OpenAI's `response` object repeats: as the caller wrote them, and the API's defaults for the
//! others.

use serde_json::{Map, Value, json};

use crate::translate::fields::Fields;

/// Most JSON that is repeated, in bytes. A stream repeats it in three events, each of which has to fit into
/// [`DEFAULT_MAX_EVENT`](crate::sse::DEFAULT_MAX_EVENT) beside the answer. What does not fit is shown as its default.
const MAX_REPEATED_BYTES: usize = 512 * 1024;

/// The settings that are repeated; the large ones last, so that they displace no others.
const REPEATED: [&str; 14] = [
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "user",
    "text",
    "instructions",
    "tools",
];

/// The settings of a request, before its reader takes them.
pub(super) fn of(body: &Fields) -> Map<String, Value> {
    let mut settings = Map::new();
    let mut bytes = 0_usize;
    for name in REPEATED {
        let Some(value) = body.get(name) else { continue };
        let more = bytes.saturating_add(value.to_string().len());
        if more <= MAX_REPEATED_BYTES {
            bytes = more;
            settings.insert(name.to_owned(), value.clone());
        }
    }
    settings
}

/// Adds the settings, and the defaults of the others, to a `response`. A default that only the provider knows is `null`.
pub(super) fn write(settings: &Map<String, Value>, response: &mut Map<String, Value>) {
    let written = |name: &str, default: Value| settings.get(name).cloned().unwrap_or(default);
    let within = |name: &str, mut defaults: Value| {
        if let (Some(all), Some(Value::Object(own))) = (defaults.as_object_mut(), settings.get(name)) {
            all.extend(own.clone());
        }
        defaults
    };
    for (name, value) in [
        ("background", false.into()),
        ("conversation", Value::Null),
        ("instructions", written("instructions", Value::Null)),
        ("max_output_tokens", written("max_output_tokens", Value::Null)),
        ("max_tool_calls", Value::Null),
        ("metadata", written("metadata", json!({}))),
        ("parallel_tool_calls", written("parallel_tool_calls", true.into())),
        ("previous_response_id", Value::Null),
        ("prompt", Value::Null),
        ("prompt_cache_key", written("prompt_cache_key", Value::Null)),
        ("reasoning", within("reasoning", json!({ "effort": null, "summary": null }))),
        ("safety_identifier", written("safety_identifier", Value::Null)),
        ("service_tier", Value::Null),
        ("store", false.into()),
        ("temperature", written("temperature", Value::Null)),
        ("text", within("text", json!({ "format": { "type": "text" }, "verbosity": "medium" }))),
        ("tool_choice", written("tool_choice", "auto".into())),
        ("tools", tools(settings.get("tools"))),
        ("top_logprobs", written("top_logprobs", 0.into())),
        ("top_p", written("top_p", Value::Null)),
        ("truncation", "disabled".into()),
        ("user", written("user", Value::Null)),
    ] {
        response.insert(name.to_owned(), value);
    }
}

/// The tools that the model had. `web_search` was left out of them, and a function's members that clients expect are all there.
fn tools(tools: Option<&Value>) -> Value {
    let tools = tools.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let offered = tools.iter().filter(|tool| tool.get("type").is_none_or(|kind| kind != "web_search"));
    let completed = offered.map(|tool| match tool.as_object() {
        Some(own) if tool.get("type").is_some_and(|kind| kind == "function") => {
            let mut all = Map::new();
            for name in ["type", "name", "description", "parameters", "strict"] {
                all.insert(name.to_owned(), Value::Null);
            }
            all.extend(own.clone());
            Value::Object(all)
        }
        _ => tool.clone(),
    });
    completed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(request: &Value) -> Value {
        let mut response = Map::new();
        write(&of(&Fields::of(String::new(), request.clone()).unwrap()), &mut response);
        Value::Object(response)
    }

    #[test]
    fn settings_are_repeated_and_others_have_their_default() {
        let request = json!({
            "model": "m", "input": "hi", "instructions": "be brief", "temperature": 0.5, "metadata": {"a": "b"}, "store": false,
            "text": {"verbosity": "low"}, "reasoning": {"effort": "low"}, "tool_choice": "required", "top_p": null,
            "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}, {"type": "custom", "name": "c"}],
        });
        let response = written(&request);
        for (name, value) in [
            ("instructions", json!("be brief")),
            ("temperature", json!(0.5)),
            ("metadata", json!({"a": "b"})),
            ("text", json!({"format": {"type": "text"}, "verbosity": "low"})),
            ("reasoning", json!({"effort": "low", "summary": null})),
            ("tool_choice", json!("required")),
            ("top_p", Value::Null),
            ("parallel_tool_calls", json!(true)),
            ("max_output_tokens", Value::Null),
            (
                "tools",
                json!([{"type": "function", "name": "f", "parameters": {}, "description": null, "strict": null},
                       {"type": "custom", "name": "c"}]),
            ),
        ] {
            assert_eq!(response[name], value, "{name}");
        }
        assert_eq!((response.get("input"), &response["store"]), (None, &json!(false)));
    }

    #[test]
    fn what_is_repeated_is_bounded() {
        let request = json!({
            "instructions": "x".repeat(MAX_REPEATED_BYTES), "user": "u",
            "tools": [{"type": "custom", "name": "c"}],
        });
        let response = written(&request);
        assert_eq!((&response["instructions"], &response["user"]), (&Value::Null, &json!("u")));
        assert_eq!(response["tools"][0]["name"], "c");
        assert!(Value::Object(of(&Fields::of(String::new(), request).unwrap())).to_string().len() < 1024);
    }
}
