//! `mcpctl apply`, `mcpctl diff`.

use std::{path::PathBuf, process::ExitCode};

use mcpctl_api::question::ApplyOutcome;
use mcpctl_client::ClientError;
use owo_colors::OwoColorize as _;

use super::files::{self, FromFile};
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to apply.
#[derive(clap::Args)]
pub struct Args {
    /// File, directory, or - for standard input
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Judge everything, store nothing
    #[arg(long)]
    dry_run: bool,
}

/// What to compare.
#[derive(clap::Args)]
pub struct DiffArgs {
    /// File, directory, or - for standard input
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Makes or changes all, or none.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let found = files::read(&args.files)?;
    let client = global.client()?;
    let documents: Vec<_> = found.iter().map(|found| &found.document).collect();
    let report = client.apply(&documents, args.dry_run).await.map_err(|error| files::place(error, &found))?;
    for warning in &report.warnings {
        anstream::eprintln!("{} {warning}", "warning:".yellow());
    }
    let suffix = if report.dry_run { " (dry run)" } else { "" };
    for applied in report.results {
        let word = match applied.outcome {
            ApplyOutcome::Created => "created",
            ApplyOutcome::Configured => "configured",
            ApplyOutcome::Unchanged => "unchanged",
        };
        anstream::println!("{}/{} {word}{suffix}", applied.kind.plural(), applied.name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows line by line what an apply would change. Exit code 0 where nothing, 1 where something would.
pub async fn diff(global: &Global, args: &DiffArgs) -> Outcome {
    let found = files::read(&args.files)?;
    let client = global.client()?;
    let mut differs = false;
    for FromFile { document, .. } in &found {
        let Some(name) = &document.name else { return Err(Failure::new("a document has no name")) };
        let before = match client.get(document.kind(), name.as_str()).await {
            Ok(resource) => {
                let mut shown = resource.to_document();
                // What only the server sets is no difference.
                (shown.id, shown.revision) = (document.id.clone(), document.revision);
                output::yaml(&shown)?
            }
            Err(ClientError::Refused { status, .. }) if status.as_u16() == 404 => String::new(),
            Err(error) => return Err(error.into()),
        };
        let after = output::yaml(document)?;
        if before != after {
            differs = true;
            anstream::println!("{}", format!("{}/{name}", document.kind().plural()).bold());
            print_lines(&before, &after);
        }
    }
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Documents are short: lines that only one side has, in order.
fn print_lines(before: &str, after: &str) {
    let has = |text: &str, line: &str| text.lines().any(|other| other == line);
    for line in before.lines().filter(|line| !has(after, line)) {
        anstream::println!("{}", format!("- {line}").red());
    }
    for line in after.lines() {
        if has(before, line) {
            anstream::println!("  {line}");
        } else {
            anstream::println!("{}", format!("+ {line}").green());
        }
    }
}
