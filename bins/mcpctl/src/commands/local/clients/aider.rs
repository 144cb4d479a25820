//! aider: `~/.aider.conf.yml` (its documentation, "YAML config file"). It runs no command for a key, so the file holds the key and
//! is private.

use super::{Change, ClientFile, Setup, directory, yaml_block};
use crate::{commands::local::init::scalar, failure::Failure};

pub(super) fn file() -> Result<ClientFile, Failure> {
    Ok(ClientFile { path: directory(None, "")?.join(".aider.conf.yml"), holds_key: true, edit })
}

fn keys(setup: &Setup) -> [(&'static str, serde_json::Value); 5] {
    let model = format!("openai/{}", setup.llm);
    [
        ("openai-api-base", setup.base().into()),
        ("openai-api-key", setup.key().into()),
        ("model", model.clone().into()),
        // For commit messages and summaries.
        ("weak-model", model.into()),
        // Of the names of Llms it knows none, and asks about each.
        ("show-model-warnings", false.into()),
    ]
}

fn edit(text: &str, change: Change<'_>) -> Result<String, Failure> {
    let rest = yaml_block::without_block(text)?;
    let mut expected = yaml_block::mapping(&rest)?;
    let Change::Set(setup) = change else { return Ok(rest) };
    let keys = keys(setup);
    let is_ours =
        |line: &str| keys.iter().any(|(key, _)| line.split_once(':').is_some_and(|(name, _)| name == *key));
    let mut edited = String::new();
    for line in yaml_block::ended(&rest).split_inclusive('\n') {
        match is_ours(line) {
            true => edited.push_str(&yaml_block::replaced(line)),
            false => edited.push_str(line),
        }
    }
    let lines: Vec<String> = keys
        .iter()
        .map(|(key, value)| match value.as_str() {
            Some(text) => format!("{key}: {}", scalar(text)),
            None => format!("{key}: {value}"),
        })
        .collect();
    edited.push_str(&yaml_block::block(&lines, ""));
    expected.extend(keys.map(|(key, value)| (key.to_owned(), value)));
    yaml_block::check(&edited, &expected)?;
    Ok(edited)
}
