//! `mcpctl patch`.

use std::process::ExitCode;

use super::resources::{kind, parse_kind};
use crate::{Outcome, context::Global, failure::Failure};

/// What to change.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. llm
    #[arg(value_parser = kind)]
    kind: String,
    /// Its name or id
    name: String,
    /// A merge patch in JSON; null removes a field
    #[arg(long, short, value_name = "JSON")]
    patch: String,
}

/// Changes fields.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let patch = serde_json::from_str(&args.patch)
        .map_err(|error| Failure::new(format!("the patch is not JSON: {error}")))?;
    let client = global.client()?;
    let changed = client.patch(parse_kind(&args.kind)?, &args.name, &patch, None).await?;
    for warning in &changed.warnings {
        anstream::eprintln!("warning: {warning}");
    }
    anstream::println!("{}/{} patched", changed.resource.kind().plural(), changed.resource.name);
    Ok(ExitCode::SUCCESS)
}
