//! Tokens and secrets.

use std::{collections::BTreeMap, process::ExitCode, str::FromStr};

use mcpctl_api::{
    Document, HumanDuration, Kind, Name, Spec, Verb,
    question::{IssuedToken, TokenRequest},
    spec::{Allowed, HostPattern, NamePattern, NotAHost, Rule, SecretSpec, SecretValue, Subject},
};
use mcpctl_client::Client;

use super::document;
use crate::{
    Outcome,
    commands::{
        files::read_file,
        targets::account,
        writing::{DryRun, WriteArgs, WriteFormat},
    },
    context::Global,
    failure::Failure,
    output::{self, table::until},
};

/// A credential for a user or service account.
#[derive(clap::Args)]
pub(super) struct Token {
    /// What it is called
    name: Name,
    /// Whom it is for, e.g. alice or ServiceAccount/ci
    #[arg(long = "for", value_name = "ACCOUNT", value_parser = account)]
    subject: Subject,
    #[command(flatten)]
    options: TokenOptions,
}

/// For how long a token is made, and what it may do.
#[derive(Default, clap::Args)]
pub(in crate::commands) struct TokenOptions {
    /// How long it is good for, e.g. 12h or 90d [default: 30d]
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<HumanDuration>,
    /// Narrow it to this rule, e.g. 'run llm/claude' or 'view,run llms claude,team-*'; several add up
    #[arg(long = "rule", value_name = "VERBS KINDS NAMES", value_parser = <Rule as FromStr>::from_str, conflicts_with_all = ["verbs", "kinds", "pattern"])]
    rules: Vec<Rule>,
    /// Narrow it to these verbs, as --rule does: view, run, use, create, edit, delete, grant, capture or *
    #[arg(long = "verb", value_delimiter = ',', value_name = "VERB", value_parser = <Allowed<Verb> as FromStr>::from_str, requires_all = ["kinds", "pattern"])]
    verbs: Vec<Allowed<Verb>>,
    /// On these kinds, e.g. llms, or *
    #[arg(long = "kind", value_delimiter = ',', value_name = "KIND", value_parser = <Allowed<Kind> as FromStr>::from_str, requires = "verbs")]
    kinds: Vec<Allowed<Kind>>,
    /// With these names, in which * stands for any characters
    #[arg(long = "name", value_delimiter = ',', value_name = "PATTERN", id = "pattern", requires = "verbs")]
    names: Vec<NamePattern>,
}

impl Token {
    pub(super) async fn create(self, global: &Global, write: WriteArgs) -> Outcome {
        self.options.issue(&global.client()?, self.name, self.subject, write).await
    }
}

impl TokenOptions {
    /// Makes such a token and prints it.
    pub(in crate::commands) async fn issue(
        self,
        client: &Client,
        name: Name,
        subject: Subject,
        write: WriteArgs,
    ) -> Outcome {
        check_token_output(write)?;
        let Self { expires_in, mut rules, verbs, kinds, names } = self;
        if !verbs.is_empty() {
            rules.push(Rule { kinds, verbs, names });
        }
        let rules = (!rules.is_empty()).then_some(rules);
        let wanted = TokenRequest { name, subject, expires_in, rules: rules.clone() };
        if write.dry_run() == DryRun::Server {
            let token = client.try_token(&wanted).await?;
            let mut report = write.report();
            report.add(Kind::Token, &token.name, Some(&token), "created")?;
            return report.finish();
        }
        let issued = client.create_token(&wanted).await?;
        print_issued(&issued, write)?;
        note!(
            "tokens/{} created for {}, expires {}; it is shown this once",
            issued.name,
            issued.subject,
            until(issued.expires_at)
        );
        match issued.rules {
            Some(narrowed) => narrowed.iter().for_each(|rule| note!("  it may only: {rule}")),
            // An mcpd that does not know rules would have refused them.
            None if rules.is_some() => {
                return Err(Failure::new("mcpd did not narrow the token").hint("delete it, and update mcpd"));
            }
            None => {}
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Rejects what makes no sense of a token: its secret is shown this once, and it has no document.
pub(in crate::commands) fn check_token_output(write: WriteArgs) -> Result<(), Failure> {
    if write.is_client_side() {
        return Err(Failure::usage("a token has no document: mcpd makes its secret")
            .hint("--dry-run=server judges whether it can be made"));
    }
    if write.dry_run() == DryRun::None && write.output == Some(WriteFormat::Name) {
        return Err(Failure::usage("`-o name` would not show the token, which is shown this once")
            .hint("without -o it shows the token alone, with -o json what belongs to it too"));
    }
    Ok(())
}

/// Prints a new token: alone, so that it can go straight into a file or a variable, or with what belongs to it.
pub(in crate::commands) fn print_issued(issued: &IssuedToken, write: WriteArgs) -> Result<(), Failure> {
    match write.output {
        Some(WriteFormat::Json) => data!("{}", serde_json::to_string_pretty(issued)?),
        Some(WriteFormat::Yaml) => data!("{}", output::yaml(issued)?.trim_end()),
        Some(WriteFormat::Name) | None => data!("{}", issued.token.expose()),
    }
}

/// Keys and values that cannot be read back.
#[derive(clap::Args)]
#[group(id = "values", multiple = true)]
pub(super) struct Secret {
    /// What it is called
    name: Name,
    /// The name after kubectl's `generic`
    #[arg(hide = true)]
    after_type: Option<Name>,
    /// A value as it is; it stays in the shell's history
    // Parsed here: the parser of the command line repeats a wrong value, and this one may be the secret itself.
    #[arg(long, value_name = "KEY=VALUE")]
    from_literal: Vec<String>,
    /// A value from a file
    #[arg(long, value_name = "KEY=FILE", value_parser = pair)]
    from_file: Vec<(String, String)>,
    /// A value from an environment variable
    #[arg(long, value_name = "KEY=VARIABLE", value_parser = pair)]
    from_env: Vec<(String, String)>,
    /// A host that the values may be sent to, e.g. api.openai.com; any where none is given
    #[arg(long = "host", value_name = "HOST[:PORT]", value_parser = host)]
    hosts: Vec<HostPattern>,
}

fn host(text: &str) -> Result<HostPattern, NotAHost> {
    text.to_owned().try_into()
}

impl Secret {
    pub(super) fn document(self) -> Result<Document, Failure> {
        let name = match self.after_type {
            None => self.name,
            Some(name) if self.name.as_str() == "generic" => name,
            Some(_) => {
                return Err(Failure::usage(format!("`{}` is not a type of secrets", self.name))
                    .hint("there is one type: mcpctl create secret NAME --from-literal KEY=VALUE"));
            }
        };
        let mut data = BTreeMap::new();
        if !self.from_literal.is_empty() {
            note!(
                "note: a value on the command line stays in the shell's history; --from-file and --from-env do not"
            );
        }
        for literal in &self.from_literal {
            let (key, value) =
                pair(literal).map_err(|error| Failure::usage(format!("--from-literal: {error}")))?;
            put(&mut data, key, value)?;
        }
        for (key, path) in self.from_file {
            put(&mut data, key, read_file(path.as_ref())?)?;
        }
        for (key, variable) in self.from_env {
            let value = std::env::var(&variable).map_err(|_| {
                Failure::new(format!("the variable `{variable}` is not set"))
                    .hint("a variable of the shell reaches its commands after `export`")
            })?;
            put(&mut data, key, value)?;
        }
        if data.is_empty() {
            return Err(Failure::usage("a secret without values")
                .hint("add --from-file KEY=FILE, --from-env KEY=VARIABLE or --from-literal KEY=VALUE"));
        }
        Ok(document(name, Spec::Secret(SecretSpec { description: None, data, hosts: self.hosts })))
    }
}

fn put(data: &mut BTreeMap<String, Option<SecretValue>>, key: String, value: String) -> Result<(), Failure> {
    match data.insert(key.clone(), Some(SecretValue::new(value))) {
        None => Ok(()),
        Some(_) => Err(Failure::usage(format!("the key `{key}` is given twice")).hint("a key has one value")),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=…".to_owned()),
    }
}
