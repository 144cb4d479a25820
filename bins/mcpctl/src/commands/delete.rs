//! `mcpctl delete`.

use std::{path::PathBuf, process::ExitCode};

use super::{
    files,
    resources::{kind, parse_kind},
};
use crate::{Outcome, context::Global, failure::Failure};

/// What to remove.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. rolebinding
    #[arg(value_parser = kind, required_unless_present = "files", conflicts_with = "files")]
    kind: Option<String>,
    /// Names or ids
    names: Vec<String>,
    /// Remove what these files name
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Removes resources, one after the other; the first failure ends it.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let mut targets = Vec::new();
    if let Some(kind) = &args.kind {
        let kind = parse_kind(kind)?;
        targets.extend(args.names.iter().map(|name| (kind, name.clone())));
        if targets.is_empty() {
            return Err(Failure::new("nothing to delete").hint("name at least one"));
        }
    } else {
        // Last first, so that what refers goes before what is referred to.
        for found in files::read(&args.files)?.into_iter().rev() {
            let name = found.document.name.as_ref().ok_or_else(|| Failure::new("a document has no name"))?;
            targets.push((found.document.kind(), name.to_string()));
        }
    }
    let client = global.client()?;
    for (kind, name) in targets {
        client.delete(kind, &name, None).await?;
        anstream::println!("{}/{name} deleted", kind.plural());
    }
    Ok(ExitCode::SUCCESS)
}
