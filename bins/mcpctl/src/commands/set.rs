//! `mcpctl set`: one value of a secret, which neither the shell's history nor the list of processes shows.

use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use mcpctl_api::{
    Document, Kind, Name, Spec, credential,
    spec::{SecretSpec, SecretValue},
};
use mcpctl_client::Client;
use serde_json::json;

use super::{create::check, files, writing::DryRunArg};
use crate::{
    Outcome,
    context::Global,
    failure::Failure,
    output::{self, terminal},
    suggest,
};

/// What to set.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// A value of a secret, which is made where there is none: asked for on a terminal, without an echo
    Secret(Secret),
}

/// A value of a secret.
#[derive(clap::Args)]
struct Secret {
    /// The secret's name
    name: Name,
    /// The key of the value
    key: String,
    /// Read the value from standard input
    #[arg(long, alias = "from-stdin", conflicts_with = "from_file")]
    stdin: bool,
    /// Read the value from a file
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// Do not ask providers whether they accept it
    #[arg(long)]
    skip_check: bool,
    #[command(flatten)]
    run: DryRunArg,
}

/// Sets the value.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let What::Secret(Secret { name, key, stdin, from_file, skip_check, run }) = args.what;
    let client = global.client()?.skipping_check(skip_check);
    let client = run.client(client);
    if !stdin && from_file.is_none() && std::io::stdin().is_terminal() {
        note_new(&client, &name).await;
    }
    let value = read(stdin, from_file.as_deref(), &format!("Value of `{key}` in secrets/{name}"))?;
    let spec = SecretSpec { data: [(key.clone(), Some(value.clone()))].into(), ..SecretSpec::default() };
    let document = Document {
        id: None,
        name: Some(name.clone()),
        labels: Default::default(),
        annotations: Default::default(),
        revision: None,
        spec: Spec::Secret(spec),
    };
    check(&document)?;
    if run.is_client_side() {
        data!("secrets/{name} has a new value of `{key}`{}", run.suffix())?;
        return Ok(ExitCode::SUCCESS);
    }
    let patch = json!({"data": {&key: value}});
    let (changed, word) = match client.patch(Kind::Secret, name.as_str(), &patch, None).await {
        Err(error) if error.is_missing() => (client.create(&document).await?, "created with"),
        changed => (changed?, "has a new value of"),
    };
    output::warnings(&changed.warnings);
    data!("secrets/{name} {word} `{key}`{}", run.suffix())?;
    Ok(ExitCode::SUCCESS)
}

/// Reports, before a value is asked for, that the secret is not there yet: the name may be mistyped.
async fn note_new(client: &Client, name: &Name) {
    if let Err(error) = client.get(Kind::Secret, name.as_str()).await
        && error.is_missing()
    {
        let missing = suggest::not_found(client, Kind::Secret, name.as_str(), error).await;
        note!("{}; it is made", missing.in_one_line());
    }
}

fn read(stdin: bool, from_file: Option<&Path>, prompt: &str) -> Result<SecretValue, Failure> {
    let text = match from_file {
        Some(path) => files::read_file(path)?,
        None if stdin => files::stdin()?,
        None if std::io::stdin().is_terminal() => terminal::ask_secret(prompt, false)?,
        None => {
            return Err(Failure::usage("there is no terminal to ask for the value")
                .hint("pass --stdin or --from-file FILE"));
        }
    };
    Ok(SecretValue::new(credential::without_line_end(&text)))
}
