//! Reads messages by Anthropic's reference of the API.

use serde_json::Value;

use super::{Conversation, Read, Refusal, Turn, known, list, string, tool};

const KEYS: &str = "model messages max_tokens cache_control container context_management inference_geo mcp_servers metadata output_config \
    service_tier speed stop_sequences stream system temperature thinking tool_choice tools top_k top_p";

/// `answered` is false of a request that only counts.
pub(super) fn read(body: &Value, answered: bool) -> Read<Conversation> {
    known(body, KEYS)?;
    if answered && !body["max_tokens"].is_u64() {
        return Err(Refusal::new("max_tokens", "Field required"));
    }
    let choice = &body["tool_choice"];
    let thinking = matches!(body["thinking"]["type"].as_str(), Some("enabled" | "adaptive"));
    if thinking && choice["type"] != "auto" && !choice.is_null() {
        return Err(Refusal::new(
            "tool_choice",
            "thinking may not be enabled when tool_choice forces tool use",
        ));
    }
    let mut conversation = Conversation {
        system: content(&body["system"], &mut Turn::default())?,
        sequential: choice["disable_parallel_tool_use"] == true,
        forced: choice["type"] == "any" || choice["type"] == "tool",
        forbidden: choice["type"] == "none",
        reasoning: thinking,
        ..Conversation::default()
    };
    if body["output_config"]["format"]["type"] == "json_schema" {
        conversation.schema = Some(body["output_config"]["format"]["schema"].clone());
    }
    for offered in body["tools"].as_array().into_iter().flatten() {
        conversation.tools.push(tool(offered, &offered["input_schema"])?);
    }
    for (at, message) in list(&body["messages"], "messages")?.iter().enumerate() {
        let role = string(&message["role"], "messages.role")?;
        let mut turn = Turn { assistant: role == "assistant", ..Turn::default() };
        if at == 0 && turn.assistant {
            return Err(Refusal::new("messages", "the first message must be the user's"));
        }
        turn.text = content(&message["content"], &mut turn)?;
        if thinking && !turn.calls.is_empty() && message["content"][0]["type"] != "thinking" {
            return Err(Refusal::new("messages", "Expected `thinking`, but found `tool_use`"));
        }
        conversation.turns.push(turn);
    }
    Ok(conversation)
}

/// The text of a content; calls, results and images go to the turn.
fn content(content: &Value, turn: &mut Turn) -> Read<String> {
    let Some(blocks) = content.as_array() else { return Ok(content.as_str().unwrap_or_default().to_owned()) };
    let mut text = String::new();
    for block in blocks {
        match string(&block["type"], "content.type")? {
            "text" => match string(&block["text"], "content.text")? {
                "" => return Err(Refusal::new("messages", "text content blocks must be non-empty")),
                words => text.push_str(words),
            },
            "image" => {
                let source = &block["source"];
                if source["media_type"] != "image/png"
                    || !source["data"].as_str().is_some_and(|data| data.starts_with("iVBOR"))
                {
                    return Err(Refusal::new("messages", "Could not process image"));
                }
                turn.images += 1;
            }
            "thinking" if block["signature"] == "signed" => {}
            "thinking" => return Err(Refusal::new("messages", "Invalid `signature` in `thinking` block")),
            "tool_use" if block["input"].is_object() => {
                turn.calls.push(string(&block["id"], "id")?.to_owned());
            }
            "tool_result" => {
                if !text.is_empty() {
                    return Err(Refusal::new("messages", "tool_result blocks must come first"));
                }
                let mut inner = Turn::default();
                let result = self::content(&block["content"], &mut inner)?;
                turn.images += inner.images;
                turn.results.push((string(&block["tool_use_id"], "tool_use_id")?.to_owned(), result));
            }
            _ => return Err(Refusal::new("messages.content", "unknown block")),
        }
    }
    Ok(text)
}
