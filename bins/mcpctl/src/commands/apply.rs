//! `mcpctl apply`, `mcpctl diff`.

use std::process::ExitCode;

use mcpctl_api::{
    Document, Spec,
    question::{ApplyOutcome, ApplyReport},
    spec::{ExternalLink, NewPassword, SecretValue},
};
use mcpctl_client::{Batch, Client};

use super::{
    files::{self, FileArgs, FromFile},
    targets::LabelSelector,
    writing::WriteArgs,
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

/// The documents of the files that can be written and are selected.
async fn read(files: &FileArgs, selector: Option<&str>) -> Result<Vec<FromFile>, Failure> {
    let selector = LabelSelector::parse(selector)?;
    let found = files.read().await?;
    found.iter().try_for_each(|found| found.name().map(drop))?;
    Ok(files::writable(found, selector.as_ref().map(|selector| &selector.parsed)))
}

async fn send(client: &Client, found: &[FromFile], shows_resources: bool) -> Result<ApplyReport, Failure> {
    let documents: Vec<_> = found.iter().map(|found| &found.document).collect();
    let batch = Batch { documents: &documents, delete: &[], shows_resources };
    let report = client.apply_batch(&batch).await.map_err(|error| files::place(error, found))?;
    output::warnings(&report.warnings);
    Ok(report)
}

/// Makes or changes all, or none.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let found = read(&args.files, args.selector.as_deref()).await?;
    let mut report = args.write.report();
    if args.write.is_client_side() {
        found.iter().try_for_each(|found| report.add_unsent(&found.document, "checked"))?;
        return report.finish();
    }
    if found.is_empty() {
        note!("nothing to apply");
        return Ok(ExitCode::SUCCESS);
    }
    let client = args.write.client(global.client()?.skipping_check(args.skip_check));
    for applied in send(&client, &found, args.write.shows_resources()).await?.results {
        let word = match applied.outcome {
            ApplyOutcome::Created => "created",
            ApplyOutcome::Configured => "configured",
            ApplyOutcome::Unchanged => "unchanged",
        };
        report.add(applied.kind, &applied.name, applied.resource.as_ref(), word)?;
    }
    report.finish()
}

/// Shows line by line what an apply would change. Exit code 0 where nothing, 1 where something would.
///
/// The server decides whether something would change, because only the server knows secret values; they are never shown.
pub async fn diff(global: &Global, args: &DiffArgs) -> Outcome {
    let found = read(&args.files, args.selector.as_deref()).await?;
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let client = global.client()?;
    let report = send(&client.clone().as_dry_run(true), &found, false).await?;
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
