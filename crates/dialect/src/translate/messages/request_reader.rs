//! Reads a messages request. The messages are read in `content_reader`.

use serde_json::Value;

use super::content_reader;
use crate::{
    request_error::RequestError,
    translate::{
        conversation::{Conversation, OutputFormat, Part, ReasoningRequest, Role, Tool, ToolChoice},
        fields::{Fields, shown},
    },
};

/// Fields that are dropped, because they change cost or speed, or serve the caller's own records, and never the answer.
/// `model` is here because the target's model takes its place.
const HINTS: [&str; 5] = ["model", "cache_control", "service_tier", "speed", "diagnostics"];

/// The same, of a tool. `eager_input_streaming` is about the size of the pieces that arguments arrive in.
const TOOL_HINTS: [&str; 2] = ["cache_control", "eager_input_streaming"];

/// Reads a request.
///
/// # Errors
/// [`RequestError`] with the path of the first field that is malformed, or that no other dialect holds.
pub fn read_request(body: &[u8]) -> Result<Conversation, RequestError> {
    let mut fields = Fields::body(body)?;
    fields.drop_hints(&HINTS);
    let mut conversation = Conversation {
        system: content_reader::read_system(&mut fields)?,
        max_tokens: Some(max_tokens(&mut fields)?),
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        stop: stop_sequences(&mut fields)?,
        choices: 1,
        stream: fields.bool("stream")?.unwrap_or(false),
        // A stream of messages always ends with usage.
        include_usage: true,
        ..Conversation::default()
    };
    let messages = fields.list("messages")?.ok_or(RequestError::Missing("messages"))?;
    content_reader::read_messages(messages, &mut conversation)?;
    conversation.tools = tools(&mut fields)?;
    tool_choice(&mut fields, &mut conversation)?;
    output(&mut fields, &mut conversation)?;
    if let Some(mut metadata) = fields.object("metadata")? {
        conversation.user = metadata.text("user_id")?;
    }
    context_management(&mut fields, &mut conversation)?;
    refuse_state(&mut fields)?;
    fields.finish()?;
    Ok(conversation)
}

/// Refuses what Anthropic's servers keep, or connect to, for a conversation.
fn refuse_state(fields: &mut Fields) -> Result<(), RequestError> {
    // An empty list connects to no server.
    if fields.get("mcp_servers") == Some(&Value::Array(Vec::new())) {
        fields.drop_hints(&["mcp_servers"]);
    }
    for (name, reason) in [
        (
            "mcp_servers",
            "asks for tools of other servers, which Anthropic calls itself, and the provider of this model does not",
        ),
        ("container", "asks for a container, but the provider of this model has none"),
        ("thread", "refers to a conversation, but the provider of this model keeps none"),
    ] {
        if fields.has(name) {
            return Err(fields.refused(name, reason, "leave it out, or ask for an Llm of `type: anthropic`"));
        }
    }
    Ok(())
}

fn max_tokens(fields: &mut Fields) -> Result<u64, RequestError> {
    match fields.count("max_tokens")? {
        None => Err(RequestError::Missing("max_tokens")),
        // Anthropic only fills its prompt cache then.
        Some(0) => Err(fields.wrong("max_tokens", "at least 1")),
        Some(tokens) => Ok(tokens),
    }
}

fn stop_sequences(fields: &mut Fields) -> Result<Vec<String>, RequestError> {
    let sequences = fields.list("stop_sequences")?.unwrap_or_default().into_iter();
    let texts = sequences.map(|(param, value)| match value {
        Value::String(text) => Ok(text),
        _ => Err(RequestError::Invalid { param, expected: "a string" }),
    });
    texts.collect()
}

fn tools(fields: &mut Fields) -> Result<Vec<Tool>, RequestError> {
    let tools = fields.list("tools")?.unwrap_or_default();
    tools.into_iter().map(|(path, tool)| read_tool(Fields::of(path, tool)?)).collect()
}

fn read_tool(mut fields: Fields) -> Result<Tool, RequestError> {
    fields.drop_hints(&TOOL_HINTS);
    // Every other type is a tool that the provider knows or runs itself, for example `web_search_20250305`.
    if let Some(kind) = fields.text("type")?.filter(|kind| kind != "custom") {
        let reason = format!(
            "is `{}`, a tool that Anthropic runs itself, or whose form only its models know",
            shown(&kind)
        );
        let hint = "leave it out, offer a tool with an `input_schema` that does the same, or ask for an Llm of `type: anthropic`";
        return Err(fields.refused("type", reason, hint));
    }
    for (name, default) in [
        ("defer_loading", Value::Bool(false)),
        ("allowed_callers", Value::from(vec!["direct"])),
        ("input_examples", Value::Array(Vec::new())),
    ] {
        fields.require_default(name, &default)?;
    }
    let parameters = match fields.take("input_schema") {
        Some(schema @ Value::Object(_)) => Some(schema),
        _ => return Err(fields.wrong("input_schema", "a JSON schema")),
    };
    let tool = Tool {
        name: fields.required_text("name")?,
        description: fields.text("description")?,
        parameters,
        strict: fields.bool("strict")?,
    };
    fields.finish()?;
    Ok(tool)
}

fn tool_choice(fields: &mut Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    let Some(mut choice) = fields.object("tool_choice")? else { return Ok(()) };
    conversation.tool_choice = Some(match choice.required_text("type")?.as_str() {
        "auto" => ToolChoice::Auto,
        "any" => ToolChoice::Required,
        "none" => ToolChoice::None,
        "tool" => ToolChoice::Tool(choice.required_text("name")?),
        _ => return Err(choice.wrong("type", "`auto`, `any`, `tool` or `none`")),
    });
    conversation.parallel_tool_calls = choice.bool("disable_parallel_tool_use")?.map(|disabled| !disabled);
    choice.finish()
}

/// `thinking`, `output_config`, and `output_format`, the earlier place of the form of the answer.
fn output(fields: &mut Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    let mut reasoning = ReasoningRequest::default();
    let thinking = fields.object("thinking")?;
    let thinks = thinking.is_some();
    if let Some(mut thinking) = thinking {
        reasoning.enabled = match thinking.required_text("type")?.as_str() {
            "enabled" => Some(true),
            // The model decides.
            "adaptive" | "between_tools" => None,
            "disabled" => Some(false),
            _ => return Err(thinking.wrong("type", "`enabled`, `adaptive`, `between_tools` or `disabled`")),
        };
        reasoning.max_tokens = thinking.count("budget_tokens")?;
        reasoning.visible = match thinking.text("display")?.as_deref() {
            None => None,
            Some("summarized") => Some(true),
            Some("omitted") => Some(false),
            Some(_) => return Err(thinking.wrong("display", "`summarized` or `omitted`")),
        };
        thinking.finish()?;
    }
    let earlier = output_format(fields, "output_format")?;
    let mut current = None;
    if let Some(mut config) = fields.object("output_config")? {
        reasoning.effort = config.text("effort")?;
        current = output_format(&mut config, "format")?;
        config.finish()?;
    }
    conversation.format = current.or(earlier).unwrap_or_default();
    if thinks || reasoning.effort.is_some() {
        conversation.reasoning = Some(reasoning);
    }
    Ok(())
}

fn output_format(fields: &mut Fields, name: &str) -> Result<Option<OutputFormat>, RequestError> {
    let Some(mut format) = fields.object(name)? else { return Ok(None) };
    if format.required_text("type")? != "json_schema" {
        return Err(format.wrong("type", "`json_schema`"));
    }
    let schema = format.take("schema").ok_or_else(|| format.wrong("schema", "a JSON schema"))?;
    format.finish()?;
    // The answer always follows the schema.
    Ok(Some(OutputFormat::JsonSchema { name: None, description: None, schema, strict: Some(true) }))
}

/// Removes earlier reasoning where the caller asks for that; other edits depend on the provider's own counts.
fn context_management(fields: &mut Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    let Some(mut management) = fields.object("context_management")? else { return Ok(()) };
    for (path, edit) in management.list("edits")?.unwrap_or_default() {
        let mut edit = Fields::of(path, edit)?;
        if edit.required_text("type")? != "clear_thinking_20251015" {
            return Err(edit.untranslatable("type"));
        }
        match edit.take("keep") {
            None => {}
            Some(Value::String(keep)) if keep == "all" => {}
            Some(keep) => {
                let mut keep = Fields::of(edit.path("keep"), keep)?;
                match keep.required_text("type")?.as_str() {
                    "all" => {}
                    "thinking_turns" => {
                        let turns =
                            keep.count("value")?.ok_or_else(|| keep.wrong("value", "a whole number"))?;
                        clear_reasoning(conversation, turns);
                    }
                    _ => return Err(keep.wrong("type", "`all` or `thinking_turns`")),
                }
                keep.finish()?;
            }
        }
        edit.finish()?;
    }
    management.finish()
}

/// Removes the reasoning of all turns of the model but the last `kept` that have some.
fn clear_reasoning(conversation: &mut Conversation, mut kept: u64) {
    let is_reasoning = |part: &Part| matches!(part, Part::Reasoning(_));
    let of_model = conversation.turns.iter_mut().rev().filter(|turn| turn.role == Role::Assistant);
    for turn in of_model.filter(|turn| turn.parts.iter().any(is_reasoning)) {
        match kept.checked_sub(1) {
            Some(left) => kept = left,
            None => turn.parts.retain(|part| !is_reasoning(part)),
        }
    }
}
