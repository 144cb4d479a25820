//! Reads requests of the Responses API by OpenAI's reference.

use serde_json::Value;

use super::{Conversation, Read, Refusal, Turn, is_image, known, string, tool};

const KEYS: &str = "background context_management conversation include input instructions max_output_tokens max_tool_calls metadata model \
    parallel_tool_calls previous_response_id prompt prompt_cache_key prompt_cache_retention reasoning safety_identifier service_tier \
    store stream stream_options temperature text tool_choice tools top_logprobs top_p truncation user";

pub(super) fn read(body: &Value) -> Read<Conversation> {
    known(body, KEYS)?;
    let mut conversation = Conversation {
        system: body["instructions"].as_str().unwrap_or_default().to_owned(),
        sequential: body["parallel_tool_calls"] == false,
        forced: body["tool_choice"] == "required" || body["tool_choice"].is_object(),
        forbidden: body["tool_choice"] == "none",
        reasoning: body["reasoning"].is_object(),
        ..Conversation::default()
    };
    let format = &body["text"]["format"];
    if format["type"] == "json_schema" {
        string(&format["name"], "text.format.name")?;
        conversation.schema = Some(format["schema"].clone());
    }
    for offered in body["tools"].as_array().into_iter().flatten() {
        conversation.tools.push(tool(offered, &offered["parameters"])?);
    }
    if let Some(text) = body["input"].as_str() {
        conversation.turns.push(Turn { text: text.to_owned(), ..Turn::default() });
    }
    for item in body["input"].as_array().into_iter().flatten() {
        let mut turn = Turn::default();
        match item["type"].as_str() {
            None | Some("message") => {
                let (text, images) = content(&item["content"])?;
                match string(&item["role"], "input.role")? {
                    "system" | "developer" => {
                        conversation.system.push_str(&text);
                        continue;
                    }
                    role => turn.assistant = role == "assistant",
                }
                (turn.text, turn.images) = (text, images);
            }
            Some("reasoning") => turn.assistant = true,
            Some("function_call") => {
                serde_json::from_str::<Value>(string(&item["arguments"], "arguments")?)
                    .map_err(|_| Refusal::new("input", "arguments are not JSON"))?;
                let call = string(&item["call_id"], "call_id")?.to_owned();
                // Parallel calls are one turn.
                match conversation.turns.last_mut().filter(|last| last.assistant && !last.calls.is_empty()) {
                    Some(last) => {
                        last.calls.push(call);
                        continue;
                    }
                    None => turn = Turn { assistant: true, calls: vec![call], ..turn },
                }
            }
            Some("function_call_output") => {
                let (text, images) = content(&item["output"])?;
                turn.results.push((string(&item["call_id"], "call_id")?.to_owned(), text));
                turn.images = images;
            }
            Some(_) => return Err(Refusal::new("input.type", "unknown item")),
        }
        conversation.turns.push(turn);
    }
    Ok(conversation)
}

/// The text of a content, and how many images it has.
fn content(content: &Value) -> Read<(String, usize)> {
    if let Some(text) = content.as_str() {
        return Ok((text.to_owned(), 0));
    }
    let (mut text, mut images) = (String::new(), 0);
    for part in content.as_array().into_iter().flatten() {
        match string(&part["type"], "content.type")? {
            "input_text" | "output_text" => text.push_str(string(&part["text"], "content.text")?),
            "input_image" if is_image(&part["image_url"]) => images += 1,
            _ => return Err(Refusal::new("input.content", "unknown part")),
        }
    }
    Ok((text, images))
}
