//! Writes a request for a chat completion. The messages are written in `messages_writer`.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::messages_writer;
use crate::{
    request_error::RequestError,
    translate::conversation::{Conversation, OutputFormat, Tool, ToolChoice},
};

/// Longest `user` that OpenAI accepts, in characters. Claude Code's are longer; it serves abuse detection only.
const MAX_USER: usize = 64;

/// Writes a request for `model`. A stream is not asked to count usage: the sender of the request knows whether the server
/// accepts `stream_options`. A budget of reasoning tokens is left out: no field has it, and a model that does not reason
/// keeps within it.
///
/// # Errors
/// [`RequestError::Unsupported`] for what chat completions cannot express.
pub fn write_request(conversation: &Conversation, model: &str) -> Result<Bytes, RequestError> {
    let mut body = Map::new();
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("model", Some(model.into()));
    set("messages", Some(messages_writer::write(conversation)?));
    set(max_tokens_key(model), conversation.max_tokens.map(Value::from));
    set("temperature", conversation.temperature.clone().map(Value::Number));
    set("top_p", conversation.top_p.clone().map(Value::Number));
    // An extension of compatible servers; OpenAI itself refuses it by name.
    set("top_k", conversation.top_k.map(Value::from));
    set("frequency_penalty", conversation.frequency_penalty.clone().map(Value::Number));
    set("presence_penalty", conversation.presence_penalty.clone().map(Value::Number));
    set("seed", conversation.seed.clone().map(Value::Number));
    set("stop", (!conversation.stop.is_empty()).then(|| json!(conversation.stop)));
    set("n", (conversation.choices > 1).then(|| conversation.choices.into()));
    set("logprobs", conversation.logprobs.map(|_| true.into()));
    set("top_logprobs", conversation.logprobs.filter(|top| *top > 0).map(Value::from));
    set("response_format", format(&conversation.format));
    let reasoning = conversation.reasoning.as_ref();
    set("reasoning_effort", reasoning.and_then(|reasoning| reasoning.effort.clone()).map(Value::from));
    // Only OpenAI's models have it, and strict servers reject what they do not know.
    let verbosity = conversation.verbosity.as_deref().filter(|_| is_openai_reasoning_model(model));
    set("verbosity", verbosity.map(Value::from));
    let user = conversation.user.as_ref().filter(|user| user.chars().count() <= MAX_USER);
    set("user", user.map(|user| user.as_str().into()));
    set("stream", conversation.stream.then(|| true.into()));
    let has_tools = !conversation.tools.is_empty();
    set("tools", has_tools.then(|| conversation.tools.iter().map(tool).collect()));
    // Without tools OpenAI rejects both, even where they ask for nothing.
    let parallel = conversation.parallel_tool_calls.filter(|_| has_tools);
    set("parallel_tool_calls", parallel.map(Value::from));
    let asks_nothing = |choice: &ToolChoice| matches!(choice, ToolChoice::Auto | ToolChoice::None);
    let choice = conversation.tool_choice.as_ref().filter(|choice| has_tools || !asks_nothing(choice));
    set("tool_choice", choice.map(tool_choice));
    Ok(Bytes::from(Value::Object(body).to_string()))
}

/// The field for the most tokens. OpenAI's reasoning models (o1 and later, gpt-5 and later, also at Azure and OpenRouter)
/// reject `max_tokens`. Everything else accepts it, and some (Ollama, LM Studio, llama.cpp before 2026) ignore
/// `max_completion_tokens`, which would leave the answer without a limit.
fn max_tokens_key(model: &str) -> &'static str {
    if is_openai_reasoning_model(model) { "max_completion_tokens" } else { "max_tokens" }
}

fn is_openai_reasoning_model(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or_default();
    let version = |prefix: &str| {
        let digits = name.strip_prefix(prefix)?.split(|next: char| !next.is_ascii_digit()).next()?;
        digits.parse::<u32>().ok()
    };
    version("o").is_some() || version("gpt-").is_some_and(|version| (5..100).contains(&version))
}

fn tool(tool: &Tool) -> Value {
    let mut function = Map::new();
    function.insert("name".to_owned(), tool.name.as_str().into());
    if let Some(description) = &tool.description {
        function.insert("description".to_owned(), description.as_str().into());
    }
    if let Some(parameters) = &tool.parameters {
        function.insert("parameters".to_owned(), parameters.clone());
    }
    if let Some(strict) = tool.strict {
        function.insert("strict".to_owned(), strict.into());
    }
    json!({ "type": "function", "function": function })
}

fn tool_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Tool(name) => json!({ "type": "function", "function": { "name": name } }),
    }
}

fn format(format: &OutputFormat) -> Option<Value> {
    match format {
        OutputFormat::Text => None,
        OutputFormat::JsonObject => Some(json!({ "type": "json_object" })),
        OutputFormat::JsonSchema { name, description, schema, strict } => {
            let mut wrapped = Map::new();
            // OpenAI requires a name, which the model does not depend on.
            wrapped.insert("name".to_owned(), name.as_deref().unwrap_or("answer").into());
            if let Some(description) = description {
                wrapped.insert("description".to_owned(), description.as_str().into());
            }
            wrapped.insert("schema".to_owned(), schema.clone());
            if let Some(strict) = strict {
                wrapped.insert("strict".to_owned(), (*strict).into());
            }
            Some(json!({ "type": "json_schema", "json_schema": wrapped }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reasoning_models_of_openai_get_the_newer_limit() {
        for (model, newer) in [
            ("o1", true),
            ("o4-mini", true),
            ("gpt-5", true),
            ("gpt-5.2-chat", true),
            ("openai/gpt-5-mini", true),
            ("gpt-4o", false),
            ("gpt-4.1", false),
            ("gpt-oss:20b", false),
            ("openai/gpt-oss-120b", false),
            ("olmo", false),
            ("claude-sonnet", false),
            ("", false),
        ] {
            assert_eq!(max_tokens_key(model) == "max_completion_tokens", newer, "{model}");
        }
    }
}
