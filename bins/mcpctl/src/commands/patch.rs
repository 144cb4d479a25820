//! `mcpctl patch`.

use std::process::ExitCode;

use mcpctl_api::yaml;

use super::targets::Targets;
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to change.
#[derive(clap::Args)]
pub struct Args {
    /// A kind and a name or id, e.g. llm claude
    #[arg(value_name = "KIND NAME | KIND/NAME", required = true)]
    what: Vec<String>,
    /// A merge patch in JSON or YAML; null removes a field
    #[arg(long, short, value_name = "PATCH")]
    patch: String,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
}

/// Changes fields.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let (kind, name) = Targets::one(&args.what)?;
    let patch: serde_json::Value = match serde_json::from_str(&args.patch) {
        Ok(patch) => patch,
        Err(_) => yaml::from_str(&args.patch)
            .map_err(|error| Failure::usage(format!("the patch is neither JSON nor YAML: {error}")))?,
    };
    if !patch.is_object() {
        return Err(Failure::usage("the patch is not an object").hint("write e.g. -p 'model: gpt-5'"));
    }
    let client = global.client()?.skipping_check(args.skip_check);
    let changed = client.patch(kind, &name, &patch, None).await?;
    output::warnings(&changed.warnings);
    data!("{}/{} patched", changed.kind.plural(), changed.name)?;
    Ok(ExitCode::SUCCESS)
}
