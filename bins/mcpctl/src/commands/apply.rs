//! `mcpctl apply`, `mcpctl diff`.

use std::{path::PathBuf, process::ExitCode};

use mcpctl_api::{
    Document, Spec,
    question::{ApplyOutcome, ApplyReport},
    spec::{ExternalLink, NewPassword, SecretValue},
};
use mcpctl_client::Client;

use super::files::{self, FromFile};
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
    /// File, directory, or - for standard input
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Judge everything, store nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
}

/// What to compare.
#[derive(clap::Args)]
pub struct DiffArgs {
    /// File, directory, or - for standard input
    #[arg(long = "filename", short = 'f', value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

async fn send(client: &Client, found: &[FromFile], dry_run: bool) -> Result<ApplyReport, Failure> {
    for found in found {
        found.name()?;
    }
    let documents: Vec<_> = found.iter().map(|found| &found.document).collect();
    let report = client.apply(&documents, dry_run).await.map_err(|error| files::place(error, found))?;
    output::warnings(&report.warnings);
    Ok(report)
}

/// Makes or changes all, or none.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let found = files::read(&args.files)?;
    let client = global.client()?.skipping_check(args.skip_check);
    let report = send(&client, &found, args.dry_run).await?;
    let suffix = if report.dry_run { " (dry run)" } else { "" };
    for applied in report.results {
        let word = match applied.outcome {
            ApplyOutcome::Created => "created",
            ApplyOutcome::Configured => "configured",
            ApplyOutcome::Unchanged => "unchanged",
        };
        data!("{}/{} {word}{suffix}", applied.kind.plural(), applied.name)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows line by line what an apply would change. Exit code 0 where nothing, 1 where something would.
///
/// The server decides whether something would change, because only the server knows secret values; they are never shown.
pub async fn diff(global: &Global, args: &DiffArgs) -> Outcome {
    let found = files::read(&args.files)?;
    let client = global.client()?;
    let report = send(&client, &found, true).await?;
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
