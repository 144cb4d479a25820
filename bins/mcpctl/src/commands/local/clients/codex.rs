//! Codex: `~/.codex/config.toml` (its documentation, "Configuration reference"). The key comes from the command in the
//! provider's `auth`.

use toml_edit::{Array, DocumentMut, Item, Table, value};

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
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
        Failure::new(format!("no TOML: {}", error.to_string().trim().replace('\n', " ")))
    })?;
    match change {
        Change::Set(setup) => set(&mut document, setup)?,
        Change::Remove => remove(&mut document),
    }
    Ok(document.to_string())
}

fn set(document: &mut DocumentMut, setup: &Setup) -> Result<(), Failure> {
    put(document, "model", &setup.llm);
    put(document, "model_provider", PROVIDER);
    let providers = document.entry(PROVIDERS).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let providers =
        providers.as_table_like_mut().ok_or_else(|| Failure::new(format!("`{PROVIDERS}` is no table")))?;
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
fn put(document: &mut DocumentMut, key: &str, text: &str) {
    match document.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = text.into();
            *old.decor_mut() = decor;
        }
        None => {
            document.insert(key, value(text));
        }
    }
}

fn remove(document: &mut DocumentMut) {
    if document.get("model_provider").and_then(Item::as_str) == Some(PROVIDER) {
        document.remove("model_provider");
        document.remove("model");
    }
    let Some(providers) = document.get_mut(PROVIDERS).and_then(Item::as_table_like_mut) else { return };
    providers.remove(PROVIDER);
    if providers.is_empty() {
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
