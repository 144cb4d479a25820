//! Claude Code: `~/.claude/settings.json` (its documentation, "Settings" and "LLM gateway"). The key comes from `apiKeyHelper`, a
//! command that it runs with a shell.

use serde_json::{Map, Value};

use super::{Change, ClientFile, Setup, directory};
use crate::{commands::local::env::Shell, failure::Failure};

const HELPER: &str = "apiKeyHelper";
/// By which a command of ours is recognised.
const OURS: &str = " local key";
/// Every role of a model in Claude Code, so that it asks for no name that mcpd does not know.
const MODELS: [&str; 4] = [
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
];
const ADDRESS: &str = "ANTHROPIC_BASE_URL";
/// Keys that it would use in place of the command's.
const KEYS: [&str; 2] = ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"];

pub(super) fn file() -> Result<ClientFile, Failure> {
    let path = directory(Some("CLAUDE_CONFIG_DIR"), ".claude")?.join("settings.json");
    Ok(ClientFile { path, holds_key: false, edit })
}

fn edit(text: &str, change: Change<'_>) -> Result<String, Failure> {
    let mut settings = object(text)?;
    match change {
        Change::Set(setup) => set(&mut settings, setup)?,
        Change::Remove { .. } if !is_ours(&settings) => return Ok(text.to_owned()),
        Change::Remove { before } => {
            let before = before.unwrap_or_default();
            let old = object(before)?;
            remove(&mut settings, &old);
            if settings == old {
                // Laid out as its user did.
                return Ok(before.to_owned());
            }
        }
    }
    if settings.is_empty() {
        return Ok(String::new());
    }
    Ok(format!("{}\n", serde_json::to_string_pretty(&settings)?))
}

fn object(text: &str) -> Result<Map<String, Value>, Failure> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::new("it is not a JSON object")),
        Err(error) => Err(Failure::new(format!("it is not valid JSON: {error}"))),
    }
}

fn is_ours(settings: &Map<String, Value>) -> bool {
    settings.get(HELPER).and_then(Value::as_str).is_some_and(|command| command.contains(OURS))
}

fn set(settings: &mut Map<String, Value>, setup: &Setup) -> Result<(), Failure> {
    let words = [setup.mcpctl.as_str()].into_iter().chain(setup.key_arguments());
    let command: Vec<String> = words.map(|word| Shell::Bash.quoted(word)).collect();
    settings.insert(HELPER.to_owned(), command.join(" ").into());
    let env = settings.entry("env").or_insert_with(|| Value::Object(Map::new()));
    let env = env.as_object_mut().ok_or_else(|| Failure::new("`env` is not an object"))?;
    if let Some(key) = KEYS.into_iter().find(|key| env.contains_key(*key)) {
        return Err(Failure::new(format!(
            "`env` has `{key}`, which Claude Code uses in place of this machine's key"
        ))
        .hint(format!("remove `{key}` from it, then run this again")));
    }
    env.insert(ADDRESS.to_owned(), setup.root.clone().into());
    for name in MODELS {
        env.insert(name.to_owned(), setup.llm.clone().into());
    }
    Ok(())
}

/// Takes ours out, and puts back what was there before.
fn remove(settings: &mut Map<String, Value>, before: &Map<String, Value>) {
    put_back(settings, before, HELPER);
    let none = Map::new();
    let old = before.get("env").and_then(Value::as_object);
    let Some(env) = settings.get_mut("env").and_then(Value::as_object_mut) else { return };
    for name in MODELS.into_iter().chain([ADDRESS]) {
        put_back(env, old.unwrap_or(&none), name);
    }
    if env.is_empty() && old.is_none() {
        settings.shift_remove("env");
    }
}

fn put_back(object: &mut Map<String, Value>, before: &Map<String, Value>, name: &str) {
    match before.get(name) {
        Some(old) => object.insert(name.to_owned(), old.clone()),
        None => object.shift_remove(name),
    };
}

#[cfg(test)]
mod tests {
    use super::{super::tests::setup, *};

    #[test]
    fn settings_have_a_command_for_the_key() {
        insta::assert_snapshot!(edit("", Change::Set(&setup())).unwrap(), @r#"
        {
          "apiKeyHelper": "'/opt/my tools/mcpctl' local key --at http://127.0.0.1:3200",
          "env": {
            "ANTHROPIC_BASE_URL": "http://127.0.0.1:3200",
            "ANTHROPIC_MODEL": "gpt",
            "ANTHROPIC_DEFAULT_OPUS_MODEL": "gpt",
            "ANTHROPIC_DEFAULT_SONNET_MODEL": "gpt",
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": "gpt"
          }
        }
        "#);
        let failure = edit(r#"{"env": {"ANTHROPIC_API_KEY": "sk"}}"#, Change::Set(&setup())).unwrap_err();
        assert!(failure.in_one_line().contains("`env` has `ANTHROPIC_API_KEY`"));
    }
}
