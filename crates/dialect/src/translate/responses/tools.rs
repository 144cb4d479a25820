//! Reads `tools` and `tool_choice`, and makes functions of the tools that only the Responses API has.
//!
//! | the caller's tool | to the model | its calls to the caller |
//! |---|---|---|
//! | `custom`, which takes free text | a function with one argument, `input` | `custom_tool_call` |
//! | a function of a `namespace` | a function `namespace__name` | `function_call` with `namespace` |
//! | `tool_search` that the client executes | a function | `tool_search_call` |
//!
//! Tools that the provider executes itself are refused by name, with one exception: Codex offers `web_search` with every
//! request, so beside other tools it is left out unless `tool_choice` asks for it. The model can do its work without.

use serde_json::{Value, json};

use super::hosted;
use crate::{
    request_error::RequestError,
    translate::{
        conversation::{CallForm, CallKind, Conversation, Tool, ToolChoice},
        fields::Fields,
    },
};

/// The name of the function that searches for tools.
pub(super) const TOOL_SEARCH: &str = "tool_search";

/// The argument of a custom tool's function.
pub(super) const INPUT: &str = "input";

/// Longest name of a function that OpenAI accepts, in bytes.
const MAX_NAME: usize = 64;

/// What a provider may do with a tool, without effect on its calls: `output_schema` describes the results, `allowed_callers` and
/// `defer_loading` are read before.
const HINTS: [&str; 1] = ["output_schema"];

/// The tool's name to the model. A name in a namespace is `namespace__name`, without characters that other providers refuse,
/// and with a hash of the whole name where it is too long.
pub(super) fn function_name(namespace: Option<&str>, name: &str) -> String {
    let Some(namespace) = namespace else { return name.to_owned() };
    let namespace = namespace.trim_end_matches('_');
    let joined = format!("{namespace}__{name}");
    let allowed = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
    let written: String =
        joined.chars().map(|character| if allowed(character) { character } else { '_' }).collect();
    if written == joined && written.len() <= MAX_NAME {
        return written;
    }
    // FNV-1a: names that differ only in what was replaced or cut off stay different.
    let hash =
        joined.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    let kept: String = written.chars().take(MAX_NAME - 9).collect();
    format!("{kept}_{hash:08x}")
}

/// Adds `tools` to the conversation.
pub(super) fn read(tools: Vec<(String, Value)>, conversation: &mut Conversation) -> Result<(), RequestError> {
    let mut left_out = None;
    for (path, tool) in tools {
        let mut tool = Fields::of(path, tool)?;
        let kind = tool.required_text("type")?;
        if kind == "web_search" {
            left_out = Some(hosted::tool(&tool, &kind));
        } else {
            add(&kind, tool, None, conversation)?;
        }
    }
    match left_out {
        Some(error) if conversation.tools.is_empty() => Err(error),
        _ => Ok(()),
    }
}

fn add(
    kind: &str,
    mut tool: Fields,
    namespace: Option<&str>,
    conversation: &mut Conversation,
) -> Result<(), RequestError> {
    match (kind, namespace) {
        ("function" | "custom", _) => {}
        ("namespace", None) => {
            return add_namespace(tool, conversation);
        }
        (TOOL_SEARCH, None) => {
            if tool.text("execution")?.as_deref() != Some("client") {
                return Err(tool.untranslatable("execution"));
            }
            let (description, parameters) = (tool.text("description")?, tool.take("parameters"));
            tool.finish()?;
            let form = form(TOOL_SEARCH, None, CallKind::ToolSearch);
            let function = Tool { name: TOOL_SEARCH.to_owned(), description, parameters, strict: None };
            return push(function, Some(form), "tools", conversation);
        }
        _ => return Err(hosted::tool(&tool, kind)),
    }
    for (name, default) in
        [("defer_loading", json!(false)), ("async", json!(false)), ("allowed_callers", json!(["direct"]))]
    {
        tool.require_default(name, &default)?;
    }
    tool.drop_hints(&HINTS);
    let path = tool.path("name");
    let name = tool.required_text("name")?;
    let description = tool.text("description")?;
    let mut function =
        Tool { name: function_name(namespace, &name), description, parameters: None, strict: None };
    let form = if kind == "custom" {
        let format = tool.object("format")?.map(read_format).transpose()?.flatten();
        function.description =
            Some(free_text_description(function.description.as_deref(), format.as_deref()));
        function.parameters = Some(free_text_parameters());
        Some(form(&name, namespace, CallKind::Custom))
    } else {
        function.parameters = tool.take("parameters");
        function.strict = tool.bool("strict")?;
        namespace.map(|namespace| form(&name, Some(namespace), CallKind::Function))
    };
    tool.finish()?;
    push(function, form, &path, conversation)
}

/// Adds the tools of a namespace. Its description goes to the first of them, because functions have no namespace.
fn add_namespace(mut namespace: Fields, conversation: &mut Conversation) -> Result<(), RequestError> {
    let name = namespace.required_text("name")?;
    let common = namespace.text("description")?.filter(|text| !text.is_empty());
    let first = conversation.tools.len();
    for (path, tool) in namespace.list("tools")?.unwrap_or_default() {
        let mut tool = Fields::of(path, tool)?;
        let kind = tool.required_text("type")?;
        add(&kind, tool, Some(&name), conversation)?;
    }
    if let (Some(common), Some(tool)) = (common, conversation.tools.get_mut(first)) {
        let own = tool.description.take().unwrap_or_default();
        tool.description = Some(format!("{own}\n\nThis tool and the others named {name}: {common}"));
    }
    namespace.finish()
}

fn form(name: &str, namespace: Option<&str>, kind: CallKind) -> CallForm {
    CallForm {
        function: function_name(namespace, name),
        name: name.to_owned(),
        namespace: namespace.map(str::to_owned),
        kind,
    }
}

/// Adds a function. A search may find the same tool of a namespace twice; two tools of one name are an error.
fn push(
    function: Tool,
    form: Option<CallForm>,
    path: &str,
    conversation: &mut Conversation,
) -> Result<(), RequestError> {
    if let Some(known) = conversation.tools.iter().find(|tool| tool.name == function.name) {
        let known_form = conversation.call_forms.iter().find(|known| known.function == function.name);
        if known.parameters == function.parameters && known_form == form.as_ref() && form.is_some() {
            return Ok(());
        }
        let expected = "different from the names of all other tools";
        return Err(RequestError::Invalid { param: path.to_owned(), expected });
    }
    conversation.tools.push(function);
    conversation.call_forms.extend(form);
    Ok(())
}

/// The grammar of a custom tool, as words for the model; `None` for any text.
fn read_format(mut format: Fields) -> Result<Option<String>, RequestError> {
    let grammar = match format.required_text("type")?.as_str() {
        "text" => None,
        "grammar" => {
            let (syntax, definition) = (format.required_text("syntax")?, format.required_text("definition")?);
            Some(format!("The text follows this {syntax} grammar:\n{definition}"))
        }
        _ => return Err(format.untranslatable("type")),
    };
    format.finish()?;
    Ok(grammar)
}

fn free_text_description(description: Option<&str>, grammar: Option<&str>) -> String {
    let call = "Call it as a function with one argument, `input`: the whole text, as a JSON string.";
    [description, Some(call), grammar].into_iter().flatten().collect::<Vec<_>>().join("\n\n")
}

fn free_text_parameters() -> Value {
    json!({
        "type": "object",
        "properties": { INPUT: { "type": "string" } },
        "required": [INPUT],
        "additionalProperties": false,
    })
}

/// Reads `tool_choice`. `allowed_tools` leaves out all others.
pub(super) fn read_choice(
    body: &mut Fields,
    conversation: &mut Conversation,
) -> Result<Option<ToolChoice>, RequestError> {
    let choice = match body.take("tool_choice") {
        None => return Ok(None),
        Some(Value::String(mode)) => return mode_of(&mode, body, "tool_choice").map(Some),
        Some(choice) => choice,
    };
    let mut choice = Fields::of(body.path("tool_choice"), choice)?;
    let read = match choice.required_text("type")?.as_str() {
        "function" | "custom" => ToolChoice::Tool(chosen(&mut choice)?),
        TOOL_SEARCH => ToolChoice::Tool(TOOL_SEARCH.to_owned()),
        "allowed_tools" => {
            let mode = choice.required_text("mode")?;
            let mode = mode_of(&mode, &choice, "mode")?;
            let mut allowed = Vec::new();
            for (path, tool) in choice.list("tools")?.unwrap_or_default() {
                let mut tool = Fields::of(path, tool)?;
                match tool.required_text("type")?.as_str() {
                    "function" | "custom" => allowed.push(chosen(&mut tool)?),
                    kind => return Err(hosted::tool(&tool, kind)),
                }
                tool.finish()?;
            }
            conversation.tools.retain(|tool| allowed.contains(&tool.name));
            mode
        }
        kind => return Err(hosted::tool(&choice, kind)),
    };
    choice.finish()?;
    Ok(Some(read))
}

fn chosen(choice: &mut Fields) -> Result<String, RequestError> {
    let (namespace, name) = (choice.text("namespace")?, choice.required_text("name")?);
    Ok(function_name(namespace.as_deref(), &name))
}

fn mode_of(mode: &str, of: &Fields, name: &str) -> Result<ToolChoice, RequestError> {
    match mode {
        "auto" => Ok(ToolChoice::Auto),
        "none" => Ok(ToolChoice::None),
        "required" => Ok(ToolChoice::Required),
        _ => Err(of.wrong(name, "`auto`, `none`, `required` or an object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_namespace_stay_different_and_within_64_bytes() {
        assert_eq!(function_name(None, "a.b"), "a.b");
        assert_eq!(function_name(Some("mcp__github__"), "search"), "mcp__github__search");
        let long = |last: &str| {
            function_name(
                Some("mcp__a_server_with_a_rather_long_name"),
                &format!("a_tool_whose_name_is_long_too_{last}"),
            )
        };
        assert_eq!(long("1").len(), MAX_NAME);
        assert_ne!(long("1"), long("2"));
        assert_ne!(function_name(Some("a"), "b.c"), function_name(Some("a"), "b_c"));
    }
}
