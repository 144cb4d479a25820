//! `mcpctl apply`, `mcpctl diff`.

mod prune;

use std::process::ExitCode;

use mcpctl_api::{
    Document, Spec,
    question::{ApplyOutcome, ApplyReport, Removal},
    spec::{ExternalLink, NewPassword, SecretValue},
};
use mcpctl_client::{Batch, Client};

use self::prune::PruneArgs;
use super::{
    files::{self, FileArgs, FromFile},
    targets::LabelSelector,
    writing::{DryRun, WriteArgs},
};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{
        self, Tone,
        diff::{Line, lines},
    },
};

/// What to apply.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Only those of the files with these labels
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    #[command(flatten)]
    prune: PruneArgs,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
    #[command(flatten)]
    write: WriteArgs,
}

/// What to compare.
#[derive(clap::Args)]
pub struct DiffArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Only those of the files with these labels
    #[arg(long, short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
}

/// The documents of the files.
async fn read(files: &FileArgs) -> Result<Vec<FromFile>, Failure> {
    let found = files.read().await?;
    found.iter().try_for_each(|found| found.name().map(drop))?;
    Ok(found)
}

/// The documents that can be written and are selected.
fn writable(found: Vec<FromFile>, selector: Option<&LabelSelector>) -> Vec<FromFile> {
    files::writable(found, selector.map(|selector| &selector.parsed))
}

async fn send(
    client: &Client,
    found: &[FromFile],
    delete: &[Removal],
    shows_resources: bool,
) -> Result<ApplyReport, Failure> {
    let documents: Vec<_> = found.iter().map(|found| &found.document).collect();
    let batch = Batch { documents: &documents, delete, shows_resources };
    client.apply_batch(&batch).await.map_err(|error| files::place(error, found))
}

/// Makes or changes all, and removes what is pruned; or does none of it.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let selector = LabelSelector::parse(args.selector.as_deref())?;
    let prune = args.prune.check(selector.as_ref())?;
    let found = read(&args.files).await?;
    let named = prune::names(&found);
    let found = writable(found, selector.as_ref());
    let mut report = args.write.report();
    if args.write.is_client_side() {
        found.iter().try_for_each(|found| report.add_unsent(&found.document, "checked"))?;
        return report.finish();
    }
    let client = args.write.client(global.client()?.skipping_check(args.skip_check));
    let pruned = match prune {
        Some(prune) => prune.find(&client, &named).await?,
        None => Vec::new(),
    };
    if found.is_empty() && pruned.is_empty() {
        note!("nothing to apply");
        return Ok(ExitCode::SUCCESS);
    }
    let delete: Vec<Removal> = pruned.iter().map(prune::removal).collect();
    if !pruned.is_empty() && args.write.dry_run() == DryRun::None {
        let judged = client.clone().as_dry_run(true);
        let along = send(&judged, &found, &delete, false).await?.warnings;
        args.prune.agree(&pruned, &along)?;
    }
    let applied = send(&client, &found, &delete, args.write.shows_resources()).await?;
    output::warnings(&applied.warnings);
    for applied in applied.results {
        let word = match applied.outcome {
            ApplyOutcome::Created => "created",
            ApplyOutcome::Configured => "configured",
            ApplyOutcome::Unchanged => "unchanged",
        };
        report.add(applied.kind, &applied.name, applied.resource.as_ref(), word)?;
    }
    for resource in &pruned {
        report.line(resource.kind(), resource.name.as_str(), "pruned")?;
    }
    report.finish()
}

/// Shows line by line what an apply would change. Exit code 0 where nothing, 1 where something would, 2 where that is not known.
///
/// The server decides whether something would change, because only the server knows secret values; they are never shown.
pub async fn diff(global: &Global, args: &DiffArgs) -> Outcome {
    compare(global, args).await.map_err(Failure::uncompared)
}

async fn compare(global: &Global, args: &DiffArgs) -> Outcome {
    let selector = LabelSelector::parse(args.selector.as_deref())?;
    let found = writable(read(&args.files).await?, selector.as_ref());
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let client = global.client()?;
    let report = send(&client.clone().as_dry_run(true), &found, &[], false).await?;
    output::warnings(&report.warnings);
    let mut differs = false;
    for (FromFile { document, .. }, applied) in found.iter().zip(report.results) {
        let before = match applied.outcome {
            ApplyOutcome::Unchanged => continue,
            ApplyOutcome::Created => String::new(),
            ApplyOutcome::Configured => {
                let resource = client.get(applied.kind, applied.name.as_str()).await?;
                // Fields that only the server sets are no difference.
                let (id, revision) = (document.id.clone(), document.revision);
                shown(Document { id, revision, ..resource.to_document() })?
            }
        };
        differs = true;
        data!(Tone::Title, &format!("{}/{}", applied.kind.plural(), applied.name); "")?;
        for line in lines(&before, &shown(document.clone())?) {
            match line {
                Line::Same(text) => data!("  {text}")?,
                Line::Gone(text) => data!(Tone::Bad, &format!("- {text}"); "")?,
                Line::Come(text) => data!(Tone::Good, &format!("+ {text}"); "")?,
            }
        }
    }
    Ok(if differs { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A document as YAML, without secret values and passwords: it ends up in scrollbacks, CI logs and reviews.
fn shown(mut document: Document) -> Result<String, Failure> {
    let hide = |value: &mut Option<SecretValue>, if_kept: Option<&str>| {
        let text = if value.is_some() { Some("*** (as given)") } else { if_kept };
        *value = text.map(SecretValue::new);
    };
    match &mut document.spec {
        Spec::Secret(secret) => {
            secret.data.values_mut().for_each(|value| hide(value, Some("*** (as stored)")))
        }
        // Fields that the server adds to a reference are no difference.
        Spec::Llm(llm) => {
            for key in llm.api_keys_mut().flatten() {
                (key.secret_id, key.attached_by) = (None, Vec::new());
            }
        }
        Spec::User(user) => {
            if let NewPassword::Set(password) = &mut user.password {
                *password = SecretValue::new("*** (as given)");
            }
            user.password_set_by.clear();
            user.throttle_lifted_at = None;
            if let ExternalLink::Set(external) = &mut user.external {
                (external.groups, external.linked_by) = (Vec::new(), Vec::new());
            }
        }
        _ => {}
    }
    output::yaml(&document)
}
