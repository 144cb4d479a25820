//! Reads a request for a chat completion. The messages are read in `messages_reader`.

use serde_json::Value;

use super::messages_reader;
use crate::{
    request_error::RequestError,
    translate::{
        conversation::{Conversation, OutputFormat, ReasoningRequest, Tool, ToolChoice},
        fields::Fields,
    },
};

/// Fields that are dropped, because they change cost or speed, or serve the caller's own records, and never the answer.
/// `model` is here because the target's model takes its place.
const HINTS: [&str; 6] =
    ["model", "metadata", "prediction", "prompt_cache_key", "prompt_cache_retention", "service_tier"];

/// Reads a request. Messages of the roles `system` and `developer` become instructions, wherever they stand.
///
/// # Errors
/// [`RequestError`] with the path of the first field that is malformed, or that no other dialect holds.
pub fn read_request(body: &[u8]) -> Result<Conversation, RequestError> {
    let mut fields = Fields::body(body)?;
    fields.drop_hints(&HINTS);
    fields.drop_prompt_cache_options()?;
    let mut conversation = Conversation::default();
    let messages = fields.list("messages")?.ok_or(RequestError::Missing("messages"))?;
    messages_reader::read(messages, &mut conversation)?;
    read_tools(&mut fields, &mut conversation)?;
    conversation.max_tokens = max_tokens(&mut fields)?;
    conversation.temperature = fields.number("temperature")?;
    conversation.top_p = fields.number("top_p")?;
    conversation.top_k = fields.count("top_k")?;
    conversation.frequency_penalty = fields.number("frequency_penalty")?;
    conversation.presence_penalty = fields.number("presence_penalty")?;
    conversation.seed = fields.number("seed")?;
    conversation.stop = stop(&mut fields)?;
    conversation.choices = fields.count("n")?.unwrap_or(1);
    conversation.logprobs = logprobs(&mut fields)?;
    conversation.format = format(&mut fields)?;
    // The default asks for nothing.
    conversation.verbosity = fields.text("verbosity")?.filter(|verbosity| verbosity != "medium");
    conversation.reasoning = reasoning(&mut fields)?;
    let user = fields.text("user")?;
    conversation.user = fields.text("safety_identifier")?.or(user);
    conversation.stream = fields.bool("stream")?.unwrap_or(false);
    if let Some(mut options) = fields.object("stream_options")? {
        conversation.include_usage = options.bool("include_usage")?.unwrap_or(false);
        options.drop_hints(&["include_obfuscation"]);
        options.finish()?;
    }
    take_defaults(&mut fields)?;
    fields.finish()?;
    Ok(conversation)
}

/// Takes the fields that no other dialect has where they hold their default, which asks for nothing.
fn take_defaults(fields: &mut Fields) -> Result<(), RequestError> {
    if fields.bool("store")? == Some(true) {
        let reason = "asks to keep the answer, but the provider of this model keeps none";
        return Err(fields.refused("store", reason, "leave it out"));
    }
    if fields.has("functions") && fields.get("functions") != Some(&Value::Array(Vec::new())) {
        let reason =
            "is the older form of `tools`, which has no counterpart in the API of this model's provider";
        return Err(fields.refused("functions", reason, "write the functions as `tools`"));
    }
    if fields.has("web_search_options") {
        let reason = "asks for a search that OpenAI runs itself, and the provider of this model does not";
        let hint = "leave it out, or offer a tool of the type `function` that searches";
        return Err(fields.refused("web_search_options", reason, hint));
    }
    for (name, default) in [
        ("modalities", Value::from(vec!["text"])),
        ("logit_bias", Value::Object(serde_json::Map::new())),
        ("functions", Value::Array(Vec::new())),
    ] {
        fields.require_default(name, &default)?;
    }
    Ok(())
}

fn read_tools(fields: &mut Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    for (path, tool) in fields.list("tools")?.unwrap_or_default() {
        let mut entry = Fields::of(path, tool)?;
        require_function(&mut entry)?;
        let mut function = entry.object("function")?.ok_or_else(|| entry.wrong("function", "an object"))?;
        entry.drop_hints(&["cache_control"]);
        entry.finish()?;
        conversation.tools.push(Tool {
            name: function.required_text("name")?,
            description: function.text("description")?,
            parameters: function.take("parameters"),
            strict: function.bool("strict")?,
        });
        function.finish()?;
    }
    conversation.parallel_tool_calls = fields.bool("parallel_tool_calls")?;
    conversation.tool_choice = match fields.take("tool_choice") {
        None => None,
        Some(Value::String(choice)) => Some(mode(&choice).ok_or_else(|| wrong_choice(fields))?),
        Some(choice) => {
            let choice = Fields::of(fields.path("tool_choice"), choice).map_err(|_| wrong_choice(fields))?;
            Some(object_choice(choice, conversation)?)
        }
    };
    Ok(())
}

fn wrong_choice(fields: &Fields) -> RequestError {
    fields.wrong("tool_choice", "`none`, `auto`, `required` or an object")
}

fn mode(choice: &str) -> Option<ToolChoice> {
    match choice {
        "none" => Some(ToolChoice::None),
        "auto" => Some(ToolChoice::Auto),
        "required" => Some(ToolChoice::Required),
        _ => None,
    }
}

/// Refuses a tool of another type than `function`, for example `custom`.
fn require_function(entry: &mut Fields) -> Result<(), RequestError> {
    match entry.required_text("type")?.as_str() {
        "function" => Ok(()),
        _ => Err(entry.untranslatable("type")),
    }
}

/// A choice that names one tool, or the tools that are allowed: the others are removed, which has the same effect.
fn object_choice(mut choice: Fields, conversation: &mut Conversation) -> Result<ToolChoice, RequestError> {
    if choice.has("allowed_tools") {
        choice.take("type");
        let mut allowed =
            choice.object("allowed_tools")?.ok_or_else(|| choice.untranslatable("allowed_tools"))?;
        let mut names = Vec::new();
        for (path, tool) in allowed.list("tools")?.unwrap_or_default() {
            let mut entry = Fields::of(path, tool)?;
            require_function(&mut entry)?;
            names.push(function_name(entry)?);
        }
        let chosen = allowed.required_text("mode")?;
        let chosen = mode(&chosen).ok_or_else(|| allowed.wrong("mode", "`auto` or `required`"))?;
        allowed.finish()?;
        choice.finish()?;
        conversation.tools.retain(|tool| names.contains(&tool.name));
        return Ok(chosen);
    }
    require_function(&mut choice)?;
    function_name(choice).map(ToolChoice::Tool)
}

/// The name in `{"function": {"name": …}}`.
fn function_name(mut entry: Fields) -> Result<String, RequestError> {
    let mut function = entry.object("function")?.ok_or_else(|| entry.wrong("function", "an object"))?;
    let name = function.required_text("name")?;
    function.finish()?;
    entry.finish()?;
    Ok(name)
}

fn max_tokens(fields: &mut Fields) -> Result<Option<u64>, RequestError> {
    let older = fields.count("max_tokens")?;
    let newer = fields.count("max_completion_tokens")?;
    match (older, newer) {
        (Some(older), Some(newer)) if older != newer => {
            Err(fields.wrong("max_tokens", "absent where `max_completion_tokens` is given"))
        }
        (older, newer) => Ok(newer.or(older)),
    }
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, RequestError> {
    match fields.take("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<String>> =
                list.into_iter().map(|text| text.as_str().map(str::to_owned)).collect();
            texts.ok_or_else(|| fields.wrong("stop", "a string or a list of strings"))
        }
        Some(_) => Err(fields.wrong("stop", "a string or a list of strings")),
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<u64>, RequestError> {
    let wanted = fields.bool("logprobs")?.unwrap_or(false);
    let top = fields.count("top_logprobs")?.unwrap_or(0);
    if top > 0 && !wanted {
        return Err(fields.wrong("top_logprobs", "accompanied by `logprobs: true`"));
    }
    Ok(wanted.then_some(top))
}

fn format(fields: &mut Fields) -> Result<OutputFormat, RequestError> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(OutputFormat::Text) };
    let kind = format.required_text("type")?;
    let read = match kind.as_str() {
        "text" => OutputFormat::Text,
        "json_object" => OutputFormat::JsonObject,
        "json_schema" => {
            let mut wrapped =
                format.object("json_schema")?.ok_or_else(|| format.wrong("json_schema", "an object"))?;
            let read = OutputFormat::JsonSchema {
                name: wrapped.text("name")?,
                description: wrapped.text("description")?,
                schema: wrapped.take("schema").ok_or_else(|| wrapped.wrong("schema", "a JSON schema"))?,
                strict: wrapped.bool("strict")?,
            };
            wrapped.finish()?;
            read
        }
        _ => return Err(format.untranslatable("type")),
    };
    format.finish()?;
    Ok(read)
}

/// `reasoning_effort`, and `thinking` as Anthropic's compatible endpoint takes it.
fn reasoning(fields: &mut Fields) -> Result<Option<ReasoningRequest>, RequestError> {
    let effort = fields.text("reasoning_effort")?;
    let mut request = ReasoningRequest::default();
    if let Some(mut thinking) = fields.object("thinking")? {
        request.enabled = match thinking.required_text("type")?.as_str() {
            "enabled" => Some(true),
            "adaptive" => None,
            "disabled" => Some(false),
            _ => return Err(thinking.wrong("type", "`enabled`, `adaptive` or `disabled`")),
        };
        request.max_tokens = thinking.count("budget_tokens")?;
        thinking.finish()?;
    } else if effort.is_none() {
        return Ok(None);
    }
    if effort.as_deref() == Some("none") {
        request.enabled = Some(false);
    }
    request.effort = effort;
    Ok(Some(request))
}
