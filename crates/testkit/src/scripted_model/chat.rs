//! Reads chat completions by OpenAI's reference of the API.

use serde_json::Value;

use super::{Conversation, Read, Refusal, Turn, is_image, known, list, string, tool};

const KEYS: &str = "model messages audio frequency_penalty logit_bias logprobs max_completion_tokens max_tokens metadata modalities n \
    parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_retention reasoning_effort response_format \
    safety_identifier seed service_tier stop store stream stream_options temperature tool_choice tools top_logprobs top_p user \
    verbosity web_search_options";

pub(super) fn read(body: &Value) -> Read<Conversation> {
    known(body, KEYS)?;
    let mut conversation = Conversation {
        sequential: body["parallel_tool_calls"] == false,
        forced: body["tool_choice"] == "required" || body["tool_choice"].is_object(),
        forbidden: body["tool_choice"] == "none",
        reasoning: body["reasoning_effort"].is_string(),
        ..Conversation::default()
    };
    if body["response_format"]["type"] == "json_schema" {
        let format = &body["response_format"]["json_schema"];
        string(&format["name"], "response_format.json_schema.name")?;
        conversation.schema = Some(format["schema"].clone());
    }
    if body["stream"] != true && !body["stream_options"].is_null() {
        return Err(Refusal::new("stream_options", "only with `stream`"));
    }
    for offered in body["tools"].as_array().into_iter().flatten() {
        conversation.tools.push(tool(&offered["function"], &offered["function"]["parameters"])?);
    }
    for message in list(&body["messages"], "messages")? {
        let role = string(&message["role"], "messages.role")?;
        let (text, images) = content(&message["content"])?;
        let mut turn = Turn { assistant: role == "assistant", images, ..Turn::default() };
        match role {
            "system" | "developer" => {
                conversation.system.push_str(&text);
                continue;
            }
            "tool" if images > 0 => return Err(Refusal::new("messages", "a tool's message has text only")),
            "tool" => {
                turn.results.push((string(&message["tool_call_id"], "tool_call_id")?.to_owned(), text));
            }
            "user" | "assistant" => turn.text = text,
            _ => return Err(Refusal::new("messages.role", "unknown role")),
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            serde_json::from_str::<Value>(string(&call["function"]["arguments"], "arguments")?)
                .map_err(|_| Refusal::new("messages.tool_calls", "arguments are not JSON"))?;
            turn.calls.push(string(&call["id"], "id")?.to_owned());
        }
        conversation.turns.push(turn);
    }
    Ok(conversation)
}

/// The text of a content, and how many images it has.
fn content(content: &Value) -> Read<(String, usize)> {
    let Some(parts) = content.as_array() else {
        return Ok((content.as_str().unwrap_or_default().to_owned(), 0));
    };
    let (mut text, mut images) = (String::new(), 0);
    for part in parts {
        match string(&part["type"], "content.type")? {
            "text" => text.push_str(string(&part["text"], "content.text")?),
            "image_url" if is_image(&part["image_url"]["url"]) => images += 1,
            _ => return Err(Refusal::new("messages.content", "unknown part")),
        }
    }
    Ok((text, images))
}
