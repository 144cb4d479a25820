//! Reads `input`: the messages, calls, outputs and reasoning of a conversation so far.

use serde_json::{Value, json};

use super::{content, hosted, reasoning, state, tools};
use crate::{
    request_error::RequestError,
    translate::{
        conversation::{Conversation, Part, Reasoning, Role, ToolCall, Turn},
        fields::{Fields, entries},
    },
};

/// What every item may have and no provider needs: its id and state, what kind of message it was to the caller, and how its
/// client found it.
const HINTS: [&str; 5] = ["id", "status", "phase", "created_by", "metadata"];

/// Adds `input` to the conversation. Instructions among the turns move to the front, in order, as in Anthropic's own
/// compatible API: no other dialect has them elsewhere.
pub(super) fn read(body: &mut Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    match body.take("input") {
        None => Ok(()),
        Some(Value::String(text)) => {
            let mut turn = Turn::at(Role::User, body.path("input"));
            turn.extend([(body.path("input"), Part::Text(text))]);
            conversation.turns.push(turn);
            Ok(())
        }
        Some(Value::Array(list)) => {
            let items = entries(&body.path("input"), list);
            items
                .into_iter()
                .try_for_each(|(path, item)| read_item(&path, Fields::of(path.clone(), item)?, conversation))
        }
        Some(_) => Err(body.wrong("input", "a string or a list of items")),
    }
}

fn read_item(path: &str, mut item: Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    let at = |part: Part| [(path.to_owned(), part)];
    let kind = match item.text("type")? {
        Some(kind) => kind,
        None if item.has("role") => "message".to_owned(),
        // An item of nothing but an id refers to what OpenAI keeps.
        None => return Err(state::stored_item(&item, "id")),
    };
    match kind.as_str() {
        "message" => message(path, &mut item, conversation)?,
        "reasoning" => {
            let block = Part::Reasoning(read_reasoning(&mut item)?);
            assistant(conversation, path, at(block));
        }
        "function_call" | "custom_tool_call" | "tool_search_call" => {
            let call = Part::ToolCall(call(&kind, &mut item)?);
            assistant(conversation, path, at(call));
        }
        "function_call_output" | "custom_tool_call_output" => {
            // Repeats the call.
            item.drop_hints(&["name", "namespace"]);
            let call = item.required_text("call_id")?;
            let parts = content::read(&mut item, "output")?;
            result(conversation, path, call, parts.into_iter().map(|(_, part)| part).collect());
        }
        "tool_search_output" => tool_search_output(path, &mut item, conversation)?,
        "additional_tools" => {
            item.drop_hints(&["role"]);
            tools::read(item.list("tools")?.unwrap_or_default(), conversation)?;
        }
        "item_reference" => return Err(state::stored_item(&item, "id")),
        _ => return Err(hosted::item(&item, &kind)),
    }
    if let Some(mut caller) = item.object("caller")? {
        // A program that OpenAI runs may call tools too.
        if caller.required_text("type")? != "direct" {
            return Err(caller.untranslatable("type"));
        }
        caller.finish()?;
    }
    // Whether the model went on before the call's result came.
    item.require_default("async", &Value::Bool(false))?;
    item.drop_hints(&HINTS);
    item.finish()
}

fn message(path: &str, item: &mut Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    let role = item.required_text("role")?;
    let parts = content::read(item, "content")?;
    match role.as_str() {
        "system" | "developer" => {
            if parts.iter().any(|(_, part)| !matches!(part, Part::Text(_))) {
                return Err(item.wrong("content", "text, in a message of this role"));
            }
            conversation.system.extend(parts.into_iter().map(|(_, part)| part));
        }
        "user" => {
            let mut turn = Turn::at(Role::User, path.to_owned());
            turn.extend(parts);
            conversation.turns.push(turn);
        }
        "assistant" => assistant(conversation, path, parts),
        _ => return Err(item.wrong("role", "`user`, `assistant`, `system` or `developer`")),
    }
    Ok(())
}

fn read_reasoning(item: &mut Fields) -> Result<Reasoning, RequestError> {
    let sealed = item.text("encrypted_content")?;
    let mut texts = |name: &str| -> Result<Vec<String>, RequestError> {
        let mut texts = Vec::new();
        for (path, part) in item.list(name)?.unwrap_or_default() {
            let mut part = Fields::of(path, part)?;
            part.drop_hints(&["type"]);
            texts.push(part.required_text("text")?);
            part.finish()?;
        }
        Ok(texts)
    };
    let (summary, content) = (texts("summary")?.join("\n\n"), texts("content")?.concat());
    let text = if content.is_empty() { summary } else { content };
    Ok(reasoning::unsealed(text, sealed.as_deref()))
}

fn call(kind: &str, item: &mut Fields) -> Result<ToolCall, RequestError> {
    let id = item.required_text("call_id")?;
    if kind == "tool_search_call" {
        item.drop_hints(&["execution"]);
        let arguments = item.take("arguments").unwrap_or_default().to_string();
        return Ok(ToolCall { id, name: tools::TOOL_SEARCH.to_owned(), arguments });
    }
    let (namespace, name) = (item.text("namespace")?, item.required_text("name")?);
    let name = tools::function_name(namespace.as_deref(), &name);
    let arguments = if kind == "custom_tool_call" {
        json!({ tools::INPUT: item.required_text("input")? }).to_string()
    } else {
        item.required_text("arguments")?
    };
    Ok(ToolCall { id, name, arguments })
}

/// The found tools become tools of the conversation, and the model reads their names.
fn tool_search_output(
    path: &str,
    item: &mut Fields,
    conversation: &mut Conversation,
) -> Result<(), RequestError> {
    item.drop_hints(&["execution"]);
    let call = item.required_text("call_id")?;
    let known = conversation.tools.len();
    let found = item.list("tools")?.unwrap_or_default();
    tools::read(found, conversation)?;
    let names: Vec<&str> = conversation.tools.iter().skip(known).map(|tool| tool.name.as_str()).collect();
    let text = if names.is_empty() {
        "No further tools were found.".to_owned()
    } else {
        format!("These tools can be called now: {}", names.join(", "))
    };
    result(conversation, path, call, vec![Part::Text(text)]);
    Ok(())
}

/// Adds to the model's turn. What the model contributed in one step is one turn, however many items it is written in.
fn assistant(conversation: &mut Conversation, path: &str, parts: impl IntoIterator<Item = (String, Part)>) {
    match conversation.turns.last_mut() {
        Some(turn) if turn.role == Role::Assistant => turn.extend(parts),
        _ => {
            let mut turn = Turn::at(Role::Assistant, path.to_owned());
            turn.extend(parts);
            conversation.turns.push(turn);
        }
    }
}

/// Adds a tool's result. The results of parallel calls are one turn, which some providers require.
fn result(conversation: &mut Conversation, path: &str, call: String, parts: Vec<Part>) {
    let result = [(path.to_owned(), Part::ToolResult { call, parts, is_error: false })];
    let is_result = |part: &Part| matches!(part, Part::ToolResult { .. });
    match conversation.turns.last_mut() {
        Some(turn) if turn.role == Role::User && turn.parts.iter().all(is_result) => {
            turn.extend(result);
        }
        _ => {
            let mut turn = Turn::at(Role::User, path.to_owned());
            turn.extend(result);
            conversation.turns.push(turn);
        }
    }
}
