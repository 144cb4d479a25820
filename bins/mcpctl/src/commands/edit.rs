//! `mcpctl edit`: in `$VISUAL` or `$EDITOR`, refused where somebody else changed it meanwhile.

use std::{
    io::Write as _,
    process::{Command, ExitCode},
};

use mcpctl_api::yaml;

use super::resources::{kind, parse_kind};
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to edit.
#[derive(clap::Args)]
pub struct Args {
    /// A kind, e.g. llm
    #[arg(value_parser = kind)]
    kind: String,
    /// Its name or id
    name: String,
}

/// Edits a resource.
pub async fn run(global: &Global, args: &Args) -> Outcome {
    let client = global.client()?;
    let kind = parse_kind(&args.kind)?;
    let resource = client.get(kind, &args.name).await?;
    let before = output::yaml(&resource.to_document())?;
    // Made private from the start, and removed at the end unless it holds what could not be stored.
    let mut file = tempfile::Builder::new().prefix("mcpctl-edit-").suffix(".yaml").tempfile()?;
    file.write_all(before.as_bytes())?;
    file.flush()?;
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.unwrap_or_else(|| "vi".to_owned());
    // An editor with arguments, such as `code --wait`, is a command line.
    let status =
        Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file.path()).status()?;
    if !status.success() {
        return Err(Failure::new(format!("the editor `{editor}` failed")).hint("set EDITOR"));
    }
    let after = std::fs::read_to_string(file.path())?;
    if after == before {
        anstream::eprintln!("nothing changed");
        return Ok(ExitCode::SUCCESS);
    }
    let stored = store(&client, &resource, &after).await;
    match stored {
        Ok(()) => {
            anstream::println!("{}/{} edited", kind.plural(), resource.name);
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            let kept = file.keep().map_or_else(|_| String::new(), |(_, path)| path.display().to_string());
            Err(failure.hint(format!("what you wrote is kept in {kept}")))
        }
    }
}

async fn store(
    client: &mcpctl_client::Client,
    resource: &mcpctl_api::Resource,
    text: &str,
) -> Result<(), Failure> {
    let documents = yaml::read_documents(text).map_err(Failure::new)?;
    let [located] = documents.as_slice() else {
        return Err(Failure::new("there must be exactly one document"));
    };
    client.put(resource.id.as_str(), &located.document, Some(resource.revision)).await?;
    Ok(())
}
