//! `mcpctl replace`: puts documents in the place of resources that exist, all or none.

use mcpctl_api::{Document, Id, question::Removal};
use mcpctl_client::Batch;

use super::{
    files::{self, FileArgs, FromFile},
    writing::WriteArgs,
};
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to replace.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// Delete and make anew, also where there is none: new ids, and what named the old ones goes, as with `mcpctl delete`
    #[arg(long)]
    force: bool,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
    #[command(flatten)]
    write: WriteArgs,
}

const REPLACED: &str = "replaced";

/// Replaces all, or none.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let mut found = args.files.read().await?;
    found.iter().try_for_each(|found| found.name().map(drop))?;
    found = files::writable(found, None);
    let mut report = args.write.report();
    if args.write.is_client_side() {
        found.iter().try_for_each(|found| report.add_unsent(&found.document, REPLACED))?;
        return report.finish();
    }
    let client = args.write.client(global.client()?.skipping_check(args.skip_check));
    let mut delete = Vec::new();
    for found in &mut found {
        let name = found.name()?.to_string();
        let there = client.get(found.document.kind(), &name).await;
        match there {
            Ok(resource) if args.force => {
                delete.push(Removal {
                    kind: resource.kind(),
                    target: resource.id.to_string(),
                    revision: Some(found.document.revision.unwrap_or(resource.revision)),
                });
                new(&mut found.document);
            }
            // At the revision that was read, so that what was deleted meanwhile is not made.
            Ok(resource) => {
                found.document.id.get_or_insert(resource.id);
                found.document.revision.get_or_insert(resource.revision);
            }
            Err(error) if args.force && error.is_missing() => new(&mut found.document),
            Err(error) => return Err(missing(found, error)),
        }
    }
    let documents: Vec<&Document> = found.iter().map(|found| &found.document).collect();
    let batch =
        Batch { documents: &documents, delete: &delete, shows_resources: args.write.shows_resources() };
    let replaced = client.apply_batch(&batch).await.map_err(|error| files::place(error, &found))?;
    output::warnings(&replaced.warnings);
    for applied in replaced.results {
        report.add(applied.kind, &applied.name, applied.resource.as_ref(), REPLACED)?;
    }
    report.finish()
}

/// Makes it the document of a resource that does not exist.
fn new(document: &mut Document) {
    (document.id, document.revision) = (None::<Id>, None);
}

fn missing(found: &FromFile, error: mcpctl_client::ClientError) -> Failure {
    let is_missing = error.is_missing();
    let failure = found.place("", error);
    if is_missing { failure.hint("`mcpctl create` or `mcpctl apply` makes it") } else { failure }
}
