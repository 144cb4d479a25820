//! `mcpctl create`: from files, or from options for the common cases.

pub(super) mod credentials;
mod limits;
mod onboarding;
mod people;
mod rights;
mod roster;
mod subjects;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use mcpctl_api::{
    Document, Name, Spec,
    spec::{Capability, LlmSpec, LlmTarget, ProviderType, SecretKeyRef},
};
use url::Url;

use super::{
    files,
    writing::{DryRun, WriteArgs},
};
use crate::{Outcome, context::Global, failure::Failure};

/// What to make.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct Args {
    /// File, directory, address (https://…), or - for standard input, each document must be new; or people in a CSV file, with
    /// the columns name,displayName,email,groups
    #[arg(long = "filename", short = 'f', value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Read directories below the directories too
    #[arg(long, short = 'R', requires = "files")]
    recursive: bool,
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
    #[command(flatten)]
    write: WriteArgs,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand)]
enum What {
    /// A person
    User(New<people::User>),
    /// A set of users and service accounts
    Group(New<people::Group>),
    /// A program that calls in its own right
    #[command(alias = "sa")]
    Serviceaccount(New<people::ServiceAccount>),
    /// A credential for a user or service account; printed once, on standard output
    Token(New<credentials::Token>),
    /// Keys and values that cannot be read back
    Secret(New<credentials::Secret>),
    /// A rule
    Role(New<rights::Role>),
    /// Gives a role to subjects
    Rolebinding(New<rights::RoleBinding>),
    /// A bound on requests, tokens or cost
    Limit(New<limits::Limit>),
    /// A named language model
    Llm(New<Llm>),
}

/// A resource from options, and what becomes of it.
#[derive(clap::Args)]
struct New<T: clap::Args> {
    #[command(flatten)]
    resource: T,
    #[command(flatten)]
    write: WriteArgs,
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
                if args.write.output.is_some() || args.write.dry_run() != DryRun::None {
                    return Err(Failure::usage("--dry-run and -o are for documents, and this is a CSV file")
                        .hint("leave them out"));
                }
                let wanted = onboarding::Wanted { tokens: args.tokens, missing: args.missing_tokens };
                onboarding::run(&global.client()?, path, wanted).await
            }
            files if files.iter().any(|path| is_csv(path)) => {
                Err(Failure::usage("people of a CSV file are made by one command a file")
                    .hint("run the command for each file"))
            }
            _ if args.tokens.is_some() => Err(Failure::usage("--tokens is for people in a CSV file")
                .hint("mcpctl create token NAME --for User/alice")),
            [] => {
                Err(Failure::usage("nothing is named").hint("-f FILE, or a kind: mcpctl create llm NAME …"))
            }
            files => from_files(global, files, &args).await,
        };
    };
    // Mistakes on the command line are reported before any request is sent.
    let (document, write) = match what {
        What::Token(New { resource, write }) => return resource.create(global, write).await,
        What::User(New { resource, write }) => return resource.create(global, write).await,
        What::Group(New { resource, write }) => (resource.document(), write),
        What::Serviceaccount(New { resource, write }) => (resource.document(), write),
        What::Secret(New { resource, write }) => (resource.document()?, write),
        What::Role(New { resource, write }) => (resource.document(), write),
        What::Rolebinding(New { resource, write }) => (resource.document()?, write),
        What::Limit(New { resource, write }) => (resource.document(), write),
        What::Llm(New { resource, write }) => {
            skip_check = resource.skip_check;
            (resource.document(), write)
        }
    };
    check(&document)?;
    if write.is_client_side() {
        return write.print_unsent(&document, CREATED);
    }
    let client = write.client(global.client()?.skipping_check(skip_check));
    let created = client.create(&document).await.map_err(|error| match &document.spec {
        Spec::Secret(_) if error.code() == Some("already_exists") => {
            let name = document.name.as_ref().map(Name::as_str).unwrap_or_default();
            Failure::new(&error).hint(format!("a new value: mcpctl set secret {name} KEY"))
        }
        _ => error.into(),
    })?;
    write.print(&created, CREATED)
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
    Document {
        id: None,
        name: Some(name),
        labels: Default::default(),
        annotations: Default::default(),
        revision: None,
        spec,
    }
}

/// What is reported of a new resource.
const CREATED: &str = "created";

async fn from_files(global: &Global, paths: &[PathBuf], args: &Args) -> Outcome {
    let found = files::read(paths, args.recursive).await?;
    let mut report = args.write.report();
    if args.write.is_client_side() {
        found.iter().try_for_each(|found| report.add_unsent(&found.document, CREATED))?;
        return report.finish();
    }
    let client = args.write.client(global.client()?.skipping_check(args.skip_check));
    for found in found {
        let changed = match client.create(&found.document).await {
            Ok(changed) => changed,
            Err(error) => {
                // Those before it are made.
                report.finish()?;
                let field = error.param().unwrap_or_default().to_owned();
                return Err(found.place(&field, error));
            }
        };
        report.warn(&changed.warnings);
        report.add(changed.kind, &changed.name, changed.resource.as_ref(), CREATED)?;
    }
    report.finish()
}
