//! Codex: `~/.codex/config.toml` (its documentation, "Configuration reference"). The key comes from the command in the
//! provider's `auth`.

use toml_edit::{Array, DocumentMut, Item, Table, Value, value};

use super::{Change, ClientFile, Setup, directory};
use crate::failure::Failure;

/// The provider's name in the file.
const PROVIDER: &str = "mcpctl";
const PROVIDERS: &str = "model_providers";

pub(super) fn file() -> Result<ClientFile, Failure> {
    let path = directory(Some("CODEX_HOME"), ".codex")?.join("config.toml");
    Ok(ClientFile { path, holds_key: false, edit })
}

fn edit(text: &str, change: Change<'_>) -> Result<String, Failure> {
    let mut document = parse(text)?;
    match change {
        Change::Set(setup) => set(&mut document, setup)?,
        Change::Remove { .. } if !is_ours(&document) => return Ok(text.to_owned()),
        Change::Remove { before } => remove(&mut document, &parse(before.unwrap_or_default())?),
    }
    let edited = document.to_string().replace("\r\n", "\n");
    Ok(if text.contains("\r\n") { edited.replace('\n', "\r\n") } else { edited })
}

fn parse(text: &str) -> Result<DocumentMut, Failure> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        Failure::new(format!("it is not valid TOML: {}", error.to_string().trim().replace('\n', " ")))
    })
}

/// Whether the provider of our name is ours: its key comes from this program.
fn is_ours(document: &DocumentMut) -> bool {
    let auth = document.get(PROVIDERS).and_then(|all| all.get(PROVIDER)).and_then(|one| one.get("auth"));
    let arguments = auth.and_then(|auth| auth.get("args")).and_then(Item::as_array);
    arguments.is_some_and(|words| words.iter().filter_map(Value::as_str).take(2).eq(["local", "key"]))
}

fn set(document: &mut DocumentMut, setup: &Setup) -> Result<(), Failure> {
    put(document, "model", setup.llm.as_str().into());
    put(document, "model_provider", PROVIDER.into());
    let providers = document.entry(PROVIDERS).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let providers =
        providers.as_table_like_mut().ok_or_else(|| Failure::new(format!("`{PROVIDERS}` is not a table")))?;
    let mut auth = Table::new();
    auth.insert("command", value(&setup.mcpctl));
    auth.insert("args", value(setup.key_arguments().into_iter().collect::<Array>()));
    let mut provider = Table::new();
    provider.insert("name", value(PROVIDER));
    provider.insert("base_url", value(setup.base()));
    provider.insert("wire_api", value("responses"));
    provider.insert("auth", Item::Table(auth));
    providers.insert(PROVIDER, Item::Table(provider));
    Ok(())
}

/// Sets a key, and keeps the comment beside it.
fn put(document: &mut DocumentMut, key: &str, new: Value) {
    match document.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = new;
            *old.decor_mut() = decor;
        }
        None => {
            document.insert(key, value(new));
        }
    }
}

/// Takes ours out, and puts back what was there before.
fn remove(document: &mut DocumentMut, before: &DocumentMut) {
    if document.get("model_provider").and_then(Item::as_str) == Some(PROVIDER) {
        for key in ["model_provider", "model"] {
            match before.get(key).and_then(Item::as_value) {
                Some(old) => put(document, key, old.clone()),
                None => {
                    document.remove(key);
                }
            }
        }
    }
    let old = before.get(PROVIDERS).and_then(|all| all.get(PROVIDER));
    let Some(providers) = document.get_mut(PROVIDERS).and_then(Item::as_table_like_mut) else { return };
    match old {
        Some(old) => providers.insert(PROVIDER, old.clone()),
        None => providers.remove(PROVIDER),
    };
    if providers.is_empty() && !before.contains_key(PROVIDERS) {
        document.remove(PROVIDERS);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::setup, *};

    #[test]
    fn provider_has_a_command_for_the_key() {
        let before = "# mine\nmodel = \"o3\" # slow\n\n[model_providers.mcpctl]\nenv_key = \"OPENAI_API_KEY\"\n\n[tui]\nx = 1\n";
        insta::assert_snapshot!(edit(before, Change::Set(&setup())).unwrap(), @r#"
        # mine
        model = "gpt" # slow
        model_provider = "mcpctl"

        [model_providers.mcpctl]
        name = "mcpctl"
        base_url = "http://127.0.0.1:3200/v1"
        wire_api = "responses"

        [model_providers.mcpctl.auth]
        command = "/opt/my tools/mcpctl"
        args = ["local", "key", "--at", "http://127.0.0.1:3200"]

        [tui]
        x = 1
        "#);
    }
}
