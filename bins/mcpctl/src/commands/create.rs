//! `mcpctl create`: from files, or from options for the common cases.

pub(super) mod credentials;
mod limits;
mod onboarding;
mod people;
mod rights;
mod roster;
mod subjects;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Subcommand;
use mcpctl_api::{
    Document, Name, Spec,
    spec::{Capability, LlmSpec, LlmTarget, ProviderType, SecretKeyRef},
};
use mcpctl_client::Changed;
use url::Url;

use super::files;
use crate::{Outcome, context::Global, failure::Failure, output};

/// What to make.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Args {
    /// File, directory, or - for standard input, each document must be new; or people in a CSV file, with the columns
    /// name,displayName,email,groups
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Make each person whom a CSV file adds a first token, and write them to this file, which only you can read; - for standard
    /// output
    #[arg(long, value_name = "FILE", requires = "files")]
    tokens: Option<PathBuf>,
    /// With --tokens, also for people of the file who are there already and have no token, e.g. after an interruption
    #[arg(long, requires = "tokens")]
    missing_tokens: bool,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
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
    /// A credential for a user or service account; printed once, on standard output
    Token(credentials::Token),
    /// Keys and values that cannot be read back
    Secret(credentials::Secret),
    /// A rule
    Role(rights::Role),
    /// Gives a role to subjects
    Rolebinding(rights::RoleBinding),
    /// A bound on requests, tokens or cost
    Limit(limits::Limit),
    /// A named language model
    Llm(Llm),
}

/// An Llm.
#[derive(clap::Args)]
struct Llm {
    /// What callers ask for
    name: Name,
    /// The API that the provider speaks: openai (every compatible server), anthropic or azure-openai
    #[arg(long = "type", value_name = "TYPE", default_value = "openai", value_parser = from_word::<ProviderType>)]
    provider: ProviderType,
    /// Base address of the provider, e.g. https://api.openai.com/v1; several spread the load
    #[arg(long = "url", value_name = "URL", required = true, value_parser = provider_url)]
    urls: Vec<Url>,
    /// The provider's own name of the model
    #[arg(long)]
    model: String,
    /// Azure's `api-version`, e.g. 2024-10-21
    #[arg(long, value_name = "VERSION")]
    api_version: Option<String>,
    /// What the provider serves besides: responses, messages, prefill
    #[arg(long = "capability", value_name = "CAPABILITY", value_parser = from_word::<Capability>)]
    capabilities: Vec<Capability>,
    /// Secret that holds the provider's key, which each URL gets
    #[arg(long, requires = "key")]
    secret: Option<Name>,
    /// The key in that secret
    #[arg(long, requires = "secret")]
    key: Option<String>,
    /// Do not ask providers whether they accept new keys
    #[arg(long)]
    skip_check: bool,
}

/// Makes resources.
pub async fn run(global: &Global, args: Args) -> Outcome {
    let mut skip_check = args.skip_check;
    let Some(what) = args.what else {
        return match args.files.as_slice() {
            [path] if is_csv(path) => {
                let wanted = onboarding::Wanted { tokens: args.tokens, missing: args.missing_tokens };
                onboarding::run(&global.client()?, path, wanted).await
            }
            files if files.iter().any(|path| is_csv(path)) => {
                Err(Failure::usage("people of a CSV file are made by one command a file"))
            }
            _ if args.tokens.is_some() => Err(Failure::usage("--tokens is for people in a CSV file")
                .hint("mcpctl create token NAME --for User/alice")),
            files => from_files(global, files, skip_check).await,
        };
    };
    // Mistakes on the command line are reported before any request is sent.
    let document = match what {
        What::Token(token) => return token.issue(&global.client()?).await,
        What::User(user) => return user.create(&global.client()?).await,
        What::Group(group) => group.document(),
        What::Serviceaccount(account) => account.document(),
        What::Secret(secret) => secret.document()?,
        What::Role(role) => role.document(),
        What::Rolebinding(binding) => binding.document()?,
        What::Limit(limit) => limit.document(),
        What::Llm(llm) => {
            skip_check = llm.skip_check;
            llm.document()
        }
    };
    check(&document)?;
    created(&global.client()?.skipping_check(skip_check).create(&document).await?)
}

fn is_csv(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"))
}

/// Reports a mistake in options before anything is sent.
pub(super) fn check(document: &Document) -> Result<(), Failure> {
    document.validate().map_err(|error| match &error.hint {
        Some(hint) => Failure::usage(&error).hint(hint),
        None => Failure::usage(&error),
    })
}

/// A word as documents have it.
fn from_word<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, String> {
    serde_json::from_value(word.into()).map_err(|error| error.to_string())
}

/// A provider may be on the same network, so http is accepted; the server checks the rest.
fn provider_url(text: &str) -> Result<Url, String> {
    text.parse().map_err(|error| format!("{error}; write e.g. https://api.openai.com/v1"))
}

impl Llm {
    fn document(self) -> Document {
        let api_key = self.secret.zip(self.key).map(|(secret, key)| SecretKeyRef {
            secret,
            key,
            secret_id: None,
            attached_by: Vec::new(),
        });
        let (url, api_key, targets) = match <[Url; 1]>::try_from(self.urls) {
            Ok([url]) => (Some(url), api_key, Vec::new()),
            Err(urls) => {
                let target = |url| LlmTarget { url, model: None, api_key: api_key.clone(), weight: 1 };
                (None, None, urls.into_iter().map(target).collect())
            }
        };
        let spec = LlmSpec {
            provider: self.provider,
            url,
            model: self.model,
            targets,
            capabilities: self.capabilities,
            api_version: self.api_version,
            api_key,
            allow_fields: Vec::new(),
            stream_usage: true,
            price: None,
            description: None,
            timeouts: Default::default(),
            retries: Default::default(),
            breaker: Default::default(),
            fallbacks: Vec::new(),
            mid_stream: Default::default(),
            failover: Default::default(),
            capture: Default::default(),
        };
        document(self.name, Spec::Llm(Box::new(spec)))
    }
}

fn document(name: Name, spec: Spec) -> Document {
    Document { id: None, name: Some(name), labels: Default::default(), revision: None, spec }
}

fn created(changed: &Changed) -> Outcome {
    output::warnings(&changed.warnings);
    data!("{}/{} created", changed.kind.plural(), changed.name)?;
    Ok(ExitCode::SUCCESS)
}

async fn from_files(global: &Global, paths: &[PathBuf], skip_check: bool) -> Outcome {
    let found = files::read(paths)?;
    let client = global.client()?.skipping_check(skip_check);
    for found in found {
        let changed = client.create(&found.document).await;
        let changed = changed.map_err(|error| {
            let field = error.param().unwrap_or_default().to_owned();
            found.place(&field, error)
        })?;
        created(&changed)?;
    }
    Ok(ExitCode::SUCCESS)
}
