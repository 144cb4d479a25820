//! `mcpctl delete`.

use std::{io::IsTerminal as _, process::ExitCode};

use mcpctl_api::{Kind, question::Removal};
use mcpctl_client::{Batch, Client, ClientError};

use super::{
    retry,
    selection::SelectionArgs,
    writing::{DryRun, WriteArgs},
};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{self, Warnings, terminal},
    suggest,
};

/// Resources that are looked at before the question.
const MAX_LISTED: usize = 1000;
/// Resources that are looked at one by one, where not all of them can be removed.
const MAX_JUDGED: usize = 50;

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
    #[command(flatten)]
    selection: SelectionArgs,
    /// Do not fail for what does not exist
    #[arg(long)]
    ignore_not_found: bool,
    /// Do not ask on a terminal before what is hard to undo
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    write: WriteArgs,
}

/// Removes resources, one after the other. What cannot be removed is reported, and the others are removed.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    if args.write.shows_resources() {
        return Err(Failure::usage("what is removed is printed as a line or as a name").hint("-o name"));
    }
    let targets = targets(global, args).await?;
    let mut report = args.write.report();
    if args.write.is_client_side() {
        for (kind, name) in &targets {
            report.line(*kind, name, DELETED)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let client = args.write.client(global.client()?);
    if args.write.dry_run() == DryRun::None
        && !args.yes
        && std::io::stdin().is_terminal()
        && !agreed(&client, &targets, args).await?
    {
        return Err(Failure::new("nothing was removed"));
    }
    let mut failures: Vec<Failure> = Vec::new();
    let mut names = suggest::Names::default();
    for (kind, name) in &targets {
        match retry::while_busy(async || client.delete(*kind, name, None).await).await {
            Ok(warnings) => {
                report.warn(&warnings);
                report.line(*kind, name, DELETED)?;
            }
            Err(error) if args.ignore_not_found && error.is_missing() => {}
            Err(error @ ClientError::Refused { .. }) => {
                failures.push(names.not_found(&client, *kind, name, error).await);
            }
            // Nothing more can be done.
            Err(error) => {
                failures.push(error.into());
                break;
            }
        }
    }
    report.finish()?;
    let Some(last) = failures.pop() else { return Ok(ExitCode::SUCCESS) };
    for failure in &failures {
        output::report(failure);
    }
    Err(last)
}

const DELETED: &str = "deleted";

/// The resources that are named or selected.
async fn targets(global: &Global, args: &Args) -> Result<Vec<(Kind, String)>, Failure> {
    let mut targets = args.selection.targets(|| global.client(), &args.what).await?;
    if args.selection.files.are_given() {
        // In reverse order, so that a resource is removed before those that it refers to.
        targets.reverse();
    }
    Ok(targets)
}

/// Lists what goes and what goes with it, and asks, where that is hard to undo.
async fn agreed(client: &Client, targets: &[(Kind, String)], args: &Args) -> Result<bool, Failure> {
    let (along, is_judged) = consequences(&client.clone().as_dry_run(true), targets).await;
    let is_many = targets.len() > 1 && args.selection.selects();
    if is_judged && along.is_empty() && !is_many && !targets.iter().any(|(kind, _)| is_irreplaceable(*kind)) {
        return Ok(true);
    }
    note!("this removes for good:");
    list_removed(targets, &along);
    terminal::confirm("Remove it?")
}

/// Lists what is removed and what is lost with it, and the warnings about what goes along.
pub(super) fn list_removed(targets: &[(Kind, String)], along: &[String]) {
    for (kind, name) in targets.iter().take(MAX_LISTED) {
        note!("  {}/{name}{}", kind.plural(), loss(*kind));
    }
    if targets.len() > MAX_LISTED {
        note!("  and {} more", targets.len() - MAX_LISTED);
    }
    let mut warnings = Warnings::default();
    warnings.add(along);
    for line in warnings.lines() {
        note!("  {line}");
    }
}

/// What goes along with the resources, and whether that is known of all of them.
async fn consequences(judge: &Client, targets: &[(Kind, String)]) -> (Vec<String>, bool) {
    let removal =
        |(kind, name): &(Kind, String)| Removal { kind: *kind, target: name.clone(), revision: None };
    let delete: Vec<_> = targets.iter().take(MAX_LISTED).map(removal).collect();
    let batch = Batch { documents: &[], delete: &delete, shows_resources: false };
    if let Ok(report) = judge.apply_batch(&batch).await {
        return (report.warnings, targets.len() <= MAX_LISTED);
    }
    // One that is missing or refused fails the whole; the others are removed all the same.
    let (mut along, mut is_judged) = (Vec::new(), targets.len() <= MAX_JUDGED);
    for (kind, name) in targets.iter().take(MAX_JUDGED) {
        match judge.delete(*kind, name, None).await {
            Ok(warnings) => along.extend(warnings),
            Err(error) => is_judged &= error.status().is_some_and(|status| status.is_client_error()),
        }
    }
    (along, is_judged)
}

/// Whether a resource holds what no file and no person can bring back.
fn is_irreplaceable(kind: Kind) -> bool {
    !loss(kind).is_empty()
}

/// What is lost with a resource of a kind besides what its document has.
fn loss(kind: Kind) -> &'static str {
    match kind {
        Kind::Secret => ", and its values",
        Kind::User => ", and its password, sessions and tokens",
        Kind::ServiceAccount => ", and its tokens",
        Kind::Token => ", and its secret",
        Kind::Llm
        | Kind::Group
        | Kind::Role
        | Kind::RoleBinding
        | Kind::Limit
        | Kind::Usage
        | Kind::Audit => "",
    }
}
