//! `mcpctl edit`: in `$VISUAL` or `$EDITOR`, rejected where the resource was changed meanwhile.

use std::{
    io::Write as _,
    process::{Command, ExitCode},
};

use mcpctl_api::{Resource, yaml};
use mcpctl_client::Client;

use super::{files, targets::Targets};
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to edit.
#[derive(clap::Args)]
pub struct Args {
    /// A kind and a name or id, e.g. llm claude
    #[arg(value_name = "KIND NAME | KIND/NAME", required = true)]
    what: Vec<String>,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
}

/// Edits a resource.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let (kind, name) = Targets::one(&args.what)?;
    let client = global.client()?.skipping_check(args.skip_check);
    let resource = client.get(kind, &name).await?;
    let before = output::yaml(&resource.to_document())?;
    // Private from the start, and removed at the end unless the server rejected its content.
    let mut file = tempfile::Builder::new().prefix("mcpctl-edit-").suffix(".yaml").tempfile()?;
    file.write_all(before.as_bytes())?;
    file.flush()?;
    let set = |name: &str| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
    let editor = set("VISUAL").or_else(|| set("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    // An editor with arguments, such as `code --wait`, is a command line.
    let status =
        Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file.path()).status()?;
    if !status.success() {
        return Err(
            Failure::new(format!("the editor `{editor}` failed, and nothing was changed")).hint("set EDITOR")
        );
    }
    let after = files::read_file(file.path())?;
    if after == before || after.trim().is_empty() {
        note!("nothing changed");
        return Ok(ExitCode::SUCCESS);
    }
    let name = file.path().display().to_string();
    match store(&client, &resource, &name, &after).await {
        Ok(()) => {
            data!("{}/{} edited", kind.plural(), resource.name)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            let kept = file.keep().is_ok();
            if kept {
                note!("what you wrote is kept in {name}");
            }
            Err(failure)
        }
    }
}

async fn store(client: &Client, resource: &Resource, file: &str, text: &str) -> Result<(), Failure> {
    let documents = yaml::read_documents(text).map_err(|error| files::wrong(file, &error))?;
    let [located] = documents.as_slice() else {
        return Err(Failure::new(format!("{file}: there must be exactly one document")));
    };
    let changed = client.put(resource.id.as_str(), &located.document, Some(resource.revision)).await?;
    output::warnings(&changed.warnings);
    Ok(())
}
