//! Continue: a model in `~/.continue/config.yaml` (its documentation, "config.yaml Reference"), whose key is a secret in the file
//! `.env` beside it.

use serde_json::{Value, json};

use super::{Change, ClientFile, Setup, directory, yaml_block};
use crate::{commands::local::init::scalar, failure::Failure};

/// The secret's name.
const SECRET: &str = "MCPCTL_LOCAL_KEY";
const MODELS: &str = "models";

pub(super) fn files() -> Result<Vec<ClientFile>, Failure> {
    let directory = directory(Some("CONTINUE_GLOBAL_DIR"), ".continue")?;
    Ok(vec![
        ClientFile { path: directory.join("config.yaml"), holds_key: false, edit: edit_models },
        ClientFile { path: directory.join(".env"), holds_key: true, edit: edit_secret },
    ])
}

/// The model, with its keys in order.
fn model(setup: &Setup) -> Value {
    json!({
        "name": format!("{} (mcpctl)", setup.llm),
        "provider": "openai",
        "model": setup.llm,
        "apiBase": setup.base(),
        "apiKey": format!("${{{{ secrets.{SECRET} }}}}"),
    })
}

fn lines(model: &Value) -> Vec<String> {
    let keys = model.as_object().into_iter().flatten();
    let line = |(at, (key, value)): (usize, (&String, &Value))| {
        let mark = if at == 0 { "-" } else { " " };
        format!("{mark} {key}: {}", scalar(value.as_str().unwrap_or_default()))
    };
    keys.enumerate().map(line).collect()
}

fn edit_models(text: &str, change: Change<'_>) -> Result<String, Failure> {
    let rest = yaml_block::without_block(text)?;
    let mut expected = yaml_block::mapping(&rest)?;
    let Change::Set(setup) = change else { return Ok(rest) };
    let (ours, is_new) = (model(setup), expected.is_empty());
    let models = expected.get(MODELS).cloned().unwrap_or(Value::Null);
    let mut all = vec![ours.clone()];
    match models {
        Value::Null => {}
        Value::Array(models) => all.extend(models),
        _ => return Err(Failure::new(format!("`{MODELS}` is not a list"))),
    }
    let has_models = all.len() > 1;
    let edited = match has_models {
        true => into_list(&yaml_block::ended(&rest), &lines(&ours)),
        false => as_only_model(&yaml_block::ended(&rest), &lines(&ours), is_new),
    };
    if is_new {
        let header = [("name", "Local Config"), ("version", "1.0.0"), ("schema", "v1")];
        expected.extend(header.map(|(key, value)| (key.to_owned(), value.into())));
    }
    expected.insert(MODELS.to_owned(), all.into());
    yaml_block::check(&edited, &expected)?;
    Ok(edited)
}

/// Our lines as the first entry of the list, indented as its entries are.
fn into_list(rest: &str, lines: &[String]) -> String {
    let mut edited = String::new();
    let mut written = false;
    let all: Vec<&str> = rest.split_inclusive('\n').collect();
    for (at, line) in all.iter().enumerate() {
        edited.push_str(line);
        if !written && is_models(line) {
            let first = all.iter().skip(at + 1).find(|line| line.trim_start().starts_with('-'));
            let indent = first.map_or("  ", |first| first.split('-').next().unwrap_or_default());
            edited.push_str(&yaml_block::block(lines, indent));
            written = true;
        }
    }
    edited
}

/// The list with our lines only, in place of one without an entry.
fn as_only_model(rest: &str, lines: &[String], is_new: bool) -> String {
    let mut edited = String::new();
    for line in rest.split_inclusive('\n') {
        match is_models(line) {
            true => edited.push_str(&yaml_block::replaced(line)),
            false => edited.push_str(line),
        }
    }
    let mut ours = Vec::new();
    if is_new {
        ours.extend(["name: Local Config", "version: 1.0.0", "schema: v1"].map(str::to_owned));
    }
    ours.push(format!("{MODELS}:"));
    ours.extend(lines.iter().map(|line| format!("  {line}")));
    edited.push_str(&yaml_block::block(&ours, ""));
    edited
}

fn is_models(line: &str) -> bool {
    line.strip_prefix(MODELS).is_some_and(|rest| rest.starts_with(':'))
}

fn edit_secret(text: &str, change: Change<'_>) -> Result<String, Failure> {
    let is_ours = |line: &&str| line.split_once('=').is_some_and(|(name, _)| name.trim() == SECRET);
    let mut edited: String = text.split_inclusive('\n').filter(|line| !is_ours(line)).collect();
    if let Change::Set(setup) = change {
        edited = yaml_block::ended(&edited);
        edited.push_str(&format!("{SECRET}={}\n", setup.key()));
    }
    Ok(edited)
}
