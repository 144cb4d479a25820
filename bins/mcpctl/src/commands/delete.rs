//! `mcpctl delete`.

use std::{path::PathBuf, process::ExitCode};

use mcpctl_api::Kind;

use super::{
    files,
    targets::{LabelSelector, Targets},
};
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to remove.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. rolebinding, with names or ids, or with a selector
    #[arg(
        value_name = "KIND [NAME]... | KIND/NAME",
        required_unless_present = "files",
        conflicts_with = "files"
    )]
    what: Vec<String>,
    /// Remove what these files name
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Remove those of the kind with these labels, e.g. 'team=a,tier notin (dev),!old'
    #[arg(long, short = 'l', value_name = "SELECTOR", conflicts_with = "files")]
    selector: Option<String>,
    /// Show what would go along, remove nothing
    #[arg(long)]
    dry_run: bool,
}

/// Removes resources, one after the other; the first failure ends it.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let targets = if let Some(selector) = LabelSelector::parse(args.selector.as_deref())? {
        selected(global, &args.what, &selector).await?
    } else if args.files.is_empty() {
        Targets::some(&args.what)?
    } else {
        // In reverse order, so that a resource is removed before those that it refers to.
        let found = files::read(&args.files, false).await?;
        found
            .iter()
            .rev()
            .map(|found| Ok((found.document.kind(), found.name()?.to_string())))
            .collect::<Result<_, Failure>>()?
    };
    let client = global.client()?.as_dry_run(args.dry_run);
    for (kind, name) in targets {
        output::warnings(&client.delete(kind, &name, None).await?);
        let suffix = if args.dry_run { " (dry run)" } else { "" };
        data!("{}/{name} deleted{suffix}", kind.plural())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The selected resources of a kind. An empty selector is an error: it is most often an empty variable.
async fn selected(
    global: &Global,
    what: &[String],
    selector: &LabelSelector,
) -> Result<Vec<(Kind, String)>, Failure> {
    let Targets::All(kind) = Targets::parse(what)? else {
        return Err(Failure::usage("either names or a selector, not both"));
    };
    if selector.parsed.is_empty() {
        return Err(Failure::usage(format!("an empty selector means all {}", kind.plural()))
            .hint("name the labels, e.g. -l team=a, or the resources"));
    }
    let list = global.client()?.list(kind, Some(&selector.text)).await?;
    if list.items.is_empty() {
        note!("nothing found");
    }
    Ok(list.items.iter().map(|item| (kind, item.name.to_string())).collect())
}
