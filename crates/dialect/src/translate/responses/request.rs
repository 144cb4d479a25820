//! Reads a request of the Responses API.

use std::sync::Arc;

use super::{input, settings, state, tools};
use crate::{
    request_error::RequestError,
    translate::{
        conversation::{Conversation, OutputFormat, Part, ReasoningRequest},
        fields::Fields,
    },
};

/// What changes cost or speed only, or serves the caller's own bookkeeping, and may be left out.
const HINTS: [&str; 5] =
    ["client_metadata", "metadata", "prompt_cache_key", "prompt_cache_retention", "service_tier"];

/// The same, of `stream_options`: padding against eavesdroppers, and how summaries of reasoning are paced.
const STREAM_HINTS: [&str; 2] = ["include_obfuscation", "reasoning_summary_delivery"];

/// Reads a request. What another dialect cannot express is refused by name.
///
/// # Errors
/// [`RequestError`] with the path of the field that is malformed, needs a server's memory, or has no counterpart elsewhere.
pub fn read_request(body: &[u8]) -> Result<Conversation, RequestError> {
    let mut body = Fields::body(body)?;
    let repeated = Arc::new(settings::of(&body));
    state::refuse(&mut body)?;
    body.drop_hints(&HINTS);
    body.drop_prompt_cache_options()?;
    if let Some(mut options) = body.object("stream_options")? {
        options.drop_hints(&STREAM_HINTS);
        options.finish()?;
    }
    // The model is chosen by the Llm.
    body.text("model")?;
    let mut conversation = Conversation {
        max_tokens: body.count("max_output_tokens")?,
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        parallel_tool_calls: body.bool("parallel_tool_calls")?,
        stream: body.bool("stream")?.unwrap_or_default(),
        reasoning: read_reasoning(&mut body)?,
        repeated,
        ..Conversation::default()
    };
    let (user, safety_identifier) = (body.text("user")?, body.text("safety_identifier")?);
    conversation.user = safety_identifier.or(user);
    conversation.system.extend(body.text("instructions")?.map(Part::Text));
    tools::read(body.list("tools")?.unwrap_or_default(), &mut conversation)?;
    input::read(&mut body, &mut conversation)?;
    conversation.tool_choice = tools::read_choice(&mut body, &mut conversation)?;
    read_text(&mut body, &mut conversation)?;
    conversation.logprobs = read_logprobs(&mut body)?;
    body.finish()?;
    Ok(conversation)
}

fn read_reasoning(body: &mut Fields) -> Result<Option<ReasoningRequest>, RequestError> {
    let Some(mut reasoning) = body.object("reasoning")? else { return Ok(None) };
    let effort = reasoning.text("effort")?;
    let (summary, older) = (reasoning.text("summary")?, reasoning.text("generate_summary")?);
    // Which items of the conversation the provider renders; a server that keeps none renders all that it is sent.
    reasoning.drop_hints(&["context"]);
    reasoning.finish()?;
    let request = ReasoningRequest {
        enabled: effort.as_deref().map(|effort| effort != "none"),
        visible: summary.or(older).map(|summary| summary != "none"),
        effort,
        max_tokens: None,
    };
    Ok((request != ReasoningRequest::default()).then_some(request))
}

fn read_text(body: &mut Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    let Some(mut text) = body.object("text")? else { return Ok(()) };
    // The default asks for nothing.
    conversation.verbosity = text.text("verbosity")?.filter(|verbosity| verbosity != "medium");
    if let Some(mut format) = text.object("format")? {
        conversation.format = match format.required_text("type")?.as_str() {
            "text" => OutputFormat::Text,
            "json_object" => OutputFormat::JsonObject,
            "json_schema" => OutputFormat::JsonSchema {
                name: Some(format.required_text("name")?),
                description: format.text("description")?,
                strict: format.bool("strict")?,
                schema: format.take("schema").ok_or_else(|| format.wrong("schema", "a JSON schema"))?,
            },
            _ => return Err(format.untranslatable("type")),
        };
        format.finish()?;
    }
    text.finish()
}

/// Reads `include` and `top_logprobs`. Encrypted reasoning is always part of an answer that has any, so asking for it changes
/// nothing.
fn read_logprobs(body: &mut Fields) -> Result<Option<u64>, RequestError> {
    let top = body.count("top_logprobs")?.unwrap_or(0);
    let mut included = false;
    for (path, value) in body.list("include")?.unwrap_or_default() {
        match value.as_str() {
            Some("reasoning.encrypted_content") => {}
            Some("message.output_text.logprobs") => included = true,
            // Of tools that the provider executes: without them there is nothing to include.
            Some("web_search_call.action.sources" | "web_search_call.results") => {}
            Some(_) => return Err(RequestError::Untranslatable { param: path }),
            None => return Err(RequestError::Invalid { param: path, expected: "a string" }),
        }
    }
    Ok((included || top > 0).then_some(top))
}

#[cfg(test)]
mod tests;
