//! `mcpctl delete`.

use std::{path::PathBuf, process::ExitCode};

use super::{files, targets::Targets};
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to remove.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. rolebinding, with names or ids
    #[arg(
        value_name = "KIND NAME... | KIND/NAME",
        required_unless_present = "files",
        conflicts_with = "files"
    )]
    what: Vec<String>,
    /// Remove what these files name
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Show what would go along, remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Removes resources, one after the other; the first failure ends it.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let targets = if args.files.is_empty() {
        Targets::some(&args.what)?
    } else {
        // Last first, so that what refers goes before what is referred to.
        let found = files::read(&args.files)?;
        found
            .iter()
            .rev()
            .map(|found| Ok((found.document.kind(), found.name()?.to_string())))
            .collect::<Result<_, Failure>>()?
    };
    let client = global.client()?;
    for (kind, name) in targets {
        output::warnings(&client.delete(kind, &name, args.dry_run).await?);
        let suffix = if args.dry_run { " (dry run)" } else { "" };
        data!("{}/{name} deleted{suffix}", kind.plural())?;
    }
    Ok(ExitCode::SUCCESS)
}
