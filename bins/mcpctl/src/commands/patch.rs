//! `mcpctl patch`.

use std::path::PathBuf;

use clap::ValueEnum;
use mcpctl_api::{
    Document, Kind,
    vocabulary::{FLAT, WRAPPERS},
    yaml,
};
use serde_json::{Map, Value};

use super::{files, retry, targets::Targets, writing::WriteArgs};
use crate::{Outcome, context::Global, failure::Failure, suggest};

/// What to change.
#[derive(clap::Args)]
pub struct Args {
    /// A kind and a name or id, e.g. llm claude
    #[arg(value_name = "KIND NAME | KIND/NAME", required = true)]
    what: Vec<String>,
    /// The patch, in JSON or YAML
    #[arg(long, short, value_name = "PATCH", required_unless_present = "patch_file")]
    patch: Option<String>,
    /// A file that holds the patch; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "patch")]
    patch_file: Option<PathBuf>,
    /// merge: the fields to set, where null removes one; json: a list of operations (RFC 6902)
    #[arg(long = "type", value_name = "TYPE", default_value = "merge")]
    patch_type: PatchType,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
    #[command(flatten)]
    write: WriteArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PatchType {
    Merge,
    Json,
    /// Refused with the reason: kubectl has it.
    #[value(hide = true)]
    Strategic,
}

/// Changes fields.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let (kind, name) = Targets::one(&args.what)?;
    let patch = Patch::read(args)?;
    let client = args.write.client(global.client()?.skipping_check(args.skip_check));
    let changed = match &patch {
        _ if args.write.is_client_side() => {
            let resource = client.get(kind, &name).await?;
            let patched = patch.apply(serde_json::to_value(&resource)?)?;
            return args.write.print_unsent(&document(kind, &patched)?, "patched");
        }
        Patch::Merge(patch) => match client.patch(kind, &name, patch, None).await {
            Ok(changed) => changed,
            Err(error) => return Err(suggest::not_found(&client, kind, &name, error).await),
        },
        Patch::Json(_) => {
            retry::until_first(format!("{}/{name}", kind.plural()), async || {
                let resource = client.get(kind, &name).await?;
                let before = serde_json::to_value(&resource).map_err(Failure::from)?;
                // As a merge patch, which mcpd reads with what it knows about references of the document.
                let changes = changes(&before, patch.apply(before.clone())?);
                Ok(client.patch(kind, resource.id.as_str(), &changes, Some(resource.revision)).await?)
            })
            .await?
        }
    };
    args.write.print(&changed, "patched")
}

/// A patch of a document.
enum Patch {
    /// RFC 7396.
    Merge(Value),
    /// RFC 6902.
    Json(json_patch::Patch),
}

impl Patch {
    fn read(args: &Args) -> Result<Self, Failure> {
        let text = match (&args.patch, &args.patch_file) {
            (Some(patch), _) => patch.clone(),
            (None, Some(path)) if path.as_os_str() == "-" => files::stdin()?,
            (None, Some(path)) => files::read_file(path)?,
            (None, None) => {
                return Err(Failure::usage("no patch is given").hint("-p PATCH or --patch-file FILE"));
            }
        };
        let patch: Value = match serde_json::from_str(&text) {
            Ok(patch) => patch,
            Err(_) => yaml::from_str(&text).map_err(|error| {
                Failure::usage(format!("the patch is neither JSON nor YAML: {error}"))
                    .hint("write e.g. -p 'model: gpt-5'")
            })?,
        };
        match args.patch_type {
            PatchType::Merge if patch.is_array() => {
                Err(Failure::usage("the patch is a list").hint("a list of operations takes --type json"))
            }
            PatchType::Merge if !patch.is_object() => {
                Err(Failure::usage("the patch is not an object").hint("write e.g. -p 'model: gpt-5'"))
            }
            PatchType::Merge if WRAPPERS.iter().any(|key| patch.get(key).is_some()) => {
                Err(Failure::usage("documents have no field `metadata` or `spec`").hint(FLAT))
            }
            PatchType::Merge => Ok(Self::Merge(patch)),
            PatchType::Json => serde_json::from_value(patch).map(Self::Json).map_err(|error| {
                Failure::usage(format!("the patch is not a list of operations: {error}")).hint(
                    "write e.g. -p '[{\"op\": \"replace\", \"path\": \"/model\", \"value\": \"gpt-5\"}]'",
                )
            }),
            PatchType::Strategic => Err(Failure::usage(
                "a strategic patch needs keys of lists, which documents of mcpd do not have",
            )
            .hint("--type merge replaces a list as a whole, --type json changes one item")),
        }
    }

    fn apply(&self, before: Value) -> Result<Value, Failure> {
        let mut after = before;
        match self {
            Self::Merge(patch) => json_patch::merge(&mut after, patch),
            // What is left of a patch that does not fit is dropped here.
            Self::Json(patch) => json_patch::patch_unsafe(&mut after, patch).map_err(|error| {
                Failure::new(format!("operation {} of the patch: {}", error.operation + 1, error.kind))
                    .hint(format!("`{}` does not fit the resource; nothing was changed", error.path))
            })?,
        }
        Ok(after)
    }
}

/// The document that a patched resource is.
fn document(kind: Kind, patched: &Value) -> Result<Document, Failure> {
    Document::from_json_as(kind, &serde_json::to_vec(patched)?).map_err(|error| {
        let failure = Failure::new(format!("the patched {kind}: {}: {error}", error.param));
        match error.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// The merge patch that turns one value into the other. Lists are replaced whole.
fn changes(before: &Value, after: Value) -> Value {
    let (Value::Object(before), Value::Object(after)) = (before, after) else { return Value::Null };
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let mut changed: Map<String, Value> = gone.map(|key| (key.clone(), Value::Null)).collect();
    for (key, value) in after {
        match before.get(&key) {
            Some(same) if *same == value => {}
            Some(old @ Value::Object(_)) if value.is_object() => {
                changed.insert(key, changes(old, value));
            }
            _ => {
                changed.insert(key, value);
            }
        }
    }
    Value::Object(changed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn changes_are_the_merge_patch_between_two_values() {
        for (before, after, expected) in [
            (json!({"a": 1, "b": 2}), json!({"a": 1, "c": [3]}), json!({"b": null, "c": [3]})),
            (json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 1, "y": 3}}), json!({"a": {"y": 3}})),
            (json!({"a": [1, 2]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"a": {"x": 1}}), json!({"a": "text"}), json!({"a": "text"})),
            (json!({"a": 1}), json!({"a": 1}), json!({})),
        ] {
            let patch = changes(&before, after.clone());
            assert_eq!(patch, expected);
            let mut patched = before;
            json_patch::merge(&mut patched, &patch);
            assert_eq!(patched, after);
        }
    }
}
