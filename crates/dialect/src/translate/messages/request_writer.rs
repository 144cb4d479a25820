//! Writes a messages request. The turns are written in `turns_writer`, how the model should reason in `thinking`.

use bytes::Bytes;
use serde_json::{Map, Number, Value, json};

use super::{
    thinking,
    turns_writer::{self, unsupported},
};
use crate::{
    request_error::RequestError,
    translate::conversation::{Conversation, OutputFormat, Tool, ToolChoice},
};

/// The most tokens of an answer where the caller gives none, because Anthropic requires a number: what every current model
/// accepts. A budget for reasoning is added.
pub const DEFAULT_MAX_TOKENS: u64 = 8192;

/// Writes a request for `model`.
///
/// # Errors
/// [`RequestError::Unsupported`] for a field that Anthropic's messages cannot express, and [`RequestError::Invalid`] for one
/// beyond their limits.
pub fn write_request(conversation: &Conversation, model: &str) -> Result<Bytes, RequestError> {
    refuse_unsupported(conversation)?;
    let requested = conversation.reasoning.as_ref();
    let (thinking, effort) = requested
        .map(|requested| thinking::write(requested, model, conversation.max_tokens))
        .unwrap_or_default();
    let default = || DEFAULT_MAX_TOKENS.saturating_add(thinking::written_budget(thinking.as_ref()));
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("model", Some(model.into()));
    set("max_tokens", Some(conversation.max_tokens.unwrap_or_else(default).into()));
    set("system", turns_writer::system(&conversation.system)?);
    set("messages", Some(turns_writer::messages(&conversation.turns)?));
    let tools: Vec<Value> = conversation.tools.iter().map(tool).collect();
    set("tool_choice", tool_choice(conversation).filter(|_| !tools.is_empty()));
    set("tools", (!tools.is_empty()).then_some(Value::Array(tools)));
    set("temperature", conversation.temperature.clone().map(Value::Number));
    set("top_p", conversation.top_p.clone().map(Value::Number));
    set("top_k", conversation.top_k.map(Value::from));
    set("stop_sequences", stop(conversation)?);
    set("thinking", thinking);
    set("output_config", output_config(conversation, effort)?);
    set("metadata", conversation.user.as_ref().map(|user| json!({ "user_id": user })));
    set("stream", conversation.stream.then_some(Value::Bool(true)));
    Ok(Bytes::from(Value::Object(body).to_string()))
}

fn refuse_unsupported(conversation: &Conversation) -> Result<(), RequestError> {
    let is_set =
        |penalty: &Option<Number>| penalty.as_ref().is_some_and(|number| number.as_f64() != Some(0.0));
    for (param, present) in [
        ("n", conversation.choices > 1),
        ("logprobs", conversation.logprobs.is_some()),
        ("seed", conversation.seed.is_some()),
        ("frequency_penalty", is_set(&conversation.frequency_penalty)),
        ("presence_penalty", is_set(&conversation.presence_penalty)),
    ] {
        if present {
            return Err(unsupported(param.to_owned()));
        }
    }
    if conversation.temperature.as_ref().and_then(Number::as_f64).is_some_and(|temperature| temperature > 1.0)
    {
        let expected = "at most 1, the limit of Anthropic's messages";
        return Err(RequestError::Invalid { param: "temperature".to_owned(), expected });
    }
    Ok(())
}

fn stop(conversation: &Conversation) -> Result<Option<Value>, RequestError> {
    if let Some(at) = conversation.stop.iter().position(|text| text.trim().is_empty()) {
        let expected = "a text that is not only white space, for Anthropic's messages";
        return Err(RequestError::Invalid { param: format!("stop[{at}]"), expected });
    }
    Ok((!conversation.stop.is_empty()).then(|| conversation.stop.as_slice().into()))
}

fn tool(tool: &Tool) -> Value {
    let mut written = Map::new();
    written.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        written.insert("description".to_owned(), description.as_str().into());
    }
    let schema =
        tool.parameters.clone().filter(|schema| schema.as_object().is_some_and(|schema| !schema.is_empty()));
    let schema = schema.unwrap_or_else(|| json!({ "type": "object", "properties": {} }));
    written.insert("input_schema".to_owned(), schema);
    if tool.strict == Some(true) {
        written.insert("strict".to_owned(), true.into());
    }
    Value::Object(written)
}

fn tool_choice(conversation: &Conversation) -> Option<Value> {
    let one_at_a_time = conversation.parallel_tool_calls == Some(false);
    let mut choice = match &conversation.tool_choice {
        None if one_at_a_time => json!({ "type": "auto" }),
        None => return None,
        Some(ToolChoice::Auto) => json!({ "type": "auto" }),
        Some(ToolChoice::None) => return Some(json!({ "type": "none" })),
        Some(ToolChoice::Required) => json!({ "type": "any" }),
        Some(ToolChoice::Tool(name)) => json!({ "type": "tool", "name": name }),
    };
    if let Some(choice) = choice.as_object_mut().filter(|_| one_at_a_time) {
        choice.insert("disable_parallel_tool_use".to_owned(), true.into());
    }
    Some(choice)
}

/// The effort, and the form of the answer. Its name is only a label to OpenAI; its description becomes the schema's.
fn output_config(conversation: &Conversation, effort: Option<String>) -> Result<Option<Value>, RequestError> {
    let mut config = Map::new();
    if let Some(effort) = effort {
        config.insert("effort".to_owned(), effort.into());
    }
    match &conversation.format {
        OutputFormat::Text => {}
        OutputFormat::JsonObject => return Err(unsupported("response_format.type".to_owned())),
        OutputFormat::JsonSchema { description, schema, .. } => {
            let mut schema = schema.clone();
            if let (Some(description), Some(schema)) = (description, schema.as_object_mut()) {
                schema.entry("description").or_insert_with(|| description.as_str().into());
            }
            config.insert("format".to_owned(), json!({ "type": "json_schema", "schema": schema }));
        }
    }
    Ok((!config.is_empty()).then_some(Value::Object(config)))
}
