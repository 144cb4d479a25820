//! `mcpctl create`: from files, or by what is most often made by hand.

mod credentials;
mod people;
mod rights;

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use mcpctl_api::{
    Document, Name, Spec,
    spec::{LlmSpec, ProviderType, SecretKeyRef},
};
use mcpctl_client::Client;
use owo_colors::OwoColorize as _;
use url::Url;

use super::files;
use crate::{Outcome, context::Global, failure::Failure};

/// What to make.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// File, directory, or - for standard input; each document must be new
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// A person
    User(people::User),
    /// A set of users and service accounts
    Group(people::Group),
    /// A program that calls in its own right
    #[command(alias = "sa")]
    Serviceaccount(people::ServiceAccount),
    /// A credential for somebody; printed once, on standard output
    Token(credentials::Token),
    /// Keys and values that nobody can read back
    Secret(credentials::Secret),
    /// A rule
    Role(rights::Role),
    /// Gives a role to subjects
    Rolebinding(rights::RoleBinding),
    /// A named language model
    Llm(Llm),
}

/// An Llm.
#[derive(clap::Args)]
struct Llm {
    /// What callers ask for
    name: Name,
    /// Base address of the provider, e.g. https://api.openai.com/v1
    #[arg(long)]
    url: Url,
    /// The provider's own name of the model
    #[arg(long)]
    model: String,
    /// Secret that holds the provider's key
    #[arg(long, requires = "key")]
    secret: Option<Name>,
    /// The key in that secret
    #[arg(long, requires = "secret")]
    key: Option<String>,
}

/// Makes resources.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let Some(what) = args.what else { return from_files(global, &args.files).await };
    let client = global.client()?;
    match what {
        What::User(user) => one(&client, user.document()?).await,
        What::Group(group) => one(&client, group.document()).await,
        What::Serviceaccount(account) => one(&client, account.document()).await,
        What::Token(token) => token.issue(&client).await,
        What::Secret(secret) => one(&client, secret.document()?).await,
        What::Role(role) => one(&client, role.document()?).await,
        What::Rolebinding(binding) => one(&client, binding.document()?).await,
        What::Llm(llm) => one(&client, llm.document()).await,
    }
}

impl Llm {
    fn document(self) -> Document {
        let api_key = self.secret.zip(self.key).map(|(secret, key)| SecretKeyRef { secret, key });
        let spec = LlmSpec {
            provider: ProviderType::Openai,
            url: self.url,
            model: self.model,
            api_key,
            description: None,
            timeouts: Default::default(),
            retries: Default::default(),
        };
        document(self.name, Spec::Llm(spec))
    }
}

fn document(name: Name, spec: Spec) -> Document {
    Document { id: None, name: Some(name), labels: Default::default(), revision: None, spec }
}

async fn one(client: &Client, document: Document) -> Outcome {
    document.spec.validate().map_err(|error| match &error.hint {
        Some(hint) => Failure::new(&error).hint(hint),
        None => Failure::new(&error),
    })?;
    let changed = client.create(&document).await?;
    for warning in &changed.warnings {
        anstream::eprintln!("{} {warning}", "warning:".yellow());
    }
    anstream::println!("{}/{} created", changed.resource.kind().plural(), changed.resource.name);
    Ok(ExitCode::SUCCESS)
}

async fn from_files(global: &Global, paths: &[PathBuf]) -> Outcome {
    if paths.is_empty() {
        return Err(Failure::new("nothing to make").hint("say -f FILE, or see `mcpctl create --help`"));
    }
    let found = files::read(paths)?;
    let client = global.client()?;
    for found in found {
        one(&client, found.document).await?;
    }
    Ok(ExitCode::SUCCESS)
}
