//! What the commands that change something have in common: `--dry-run`, `-o`, and what they print of each resource.

use std::process::ExitCode;

use clap::ValueEnum;
use mcpctl_api::{Document, Kind, Name, Resource};
use mcpctl_client::{Changed, Client};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    Outcome,
    failure::Failure,
    output::{self, Warnings},
};

/// `--dry-run` of a command that changes something.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct DryRunArg {
    /// Change nothing: mcpd judges it (server, also where no word is given), or it is not sent (client)
    #[arg(
        long,
        value_name = "WHERE",
        num_args = 0..=1,
        require_equals = true,
        default_value = "none",
        default_missing_value = "server",
        hide_default_value = true
    )]
    dry_run: DryRun,
}

impl DryRunArg {
    /// Whether nothing is sent that could change something.
    pub fn is_client_side(self) -> bool {
        self.dry_run == DryRun::Client
    }

    /// The client, whose writes are stored unless this is a dry run.
    pub fn client(self, client: Client) -> Client {
        client.as_dry_run(self.dry_run != DryRun::None)
    }

    /// What follows a line about a change that was not made.
    pub fn suffix(self) -> &'static str {
        if self.dry_run == DryRun::None { "" } else { " (dry run)" }
    }
}

/// The options of a command that writes resources.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct WriteArgs {
    #[command(flatten)]
    run: DryRunArg,
    /// Print what is written, instead of a line about it
    #[arg(long, short, value_name = "FORMAT")]
    pub output: Option<WriteFormat>,
}

/// Where a command that changes something ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DryRun {
    /// It changes something.
    None,
    /// Before it is sent.
    Client,
    /// At mcpd, before it is stored.
    Server,
}

/// `-o` of a command that changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WriteFormat {
    /// JSON.
    Json,
    /// YAML that `apply` takes.
    Yaml,
    /// `kinds/name` each.
    Name,
}

impl WriteArgs {
    /// `--dry-run` alone.
    pub fn run(self) -> DryRunArg {
        self.run
    }

    /// Where it ends.
    pub fn dry_run(self) -> DryRun {
        self.run.dry_run
    }

    /// Whether nothing is sent that could change something.
    pub fn is_client_side(self) -> bool {
        self.run.is_client_side()
    }

    /// The client, whose writes are stored unless this is a dry run.
    pub fn client(self, client: Client) -> Client {
        self.run.client(client)
    }

    /// What follows a line about a change that was not made.
    pub fn suffix(self) -> &'static str {
        self.run.suffix()
    }

    /// Whether each resource is printed whole.
    pub fn shows_resources(self) -> bool {
        matches!(self.output, Some(WriteFormat::Json | WriteFormat::Yaml))
    }

    /// What is printed of the resources that are written.
    pub fn report(self) -> WriteReport {
        WriteReport { args: self, items: Vec::new(), warnings: Warnings::default() }
    }

    /// Prints the only resource that was written.
    pub fn print(self, changed: &Changed, word: &str) -> Outcome {
        let mut report = self.report();
        report.warn(&changed.warnings);
        report.add(changed.kind, &changed.name, changed.resource.as_ref(), word)?;
        report.finish()
    }

    /// Prints the only document, which was not sent.
    pub fn print_unsent(self, document: &Document, word: &str) -> Outcome {
        let mut report = self.report();
        report.add_unsent(document, word)?;
        report.finish()
    }
}

/// What is printed of the resources that a command writes: a line each, or all of them at the end.
pub struct WriteReport {
    args: WriteArgs,
    items: Vec<Value>,
    warnings: Warnings,
}

impl WriteReport {
    /// Adds a resource that was written, or would be; `None` where the writer may not view it.
    pub fn add(
        &mut self,
        kind: Kind,
        name: &Name,
        resource: Option<&Resource>,
        word: &str,
    ) -> Result<(), Failure> {
        if self.line(kind, name.as_str(), word)? {
            return Ok(());
        }
        match resource {
            Some(resource) => self.items.push(serde_json::to_value(resource)?),
            None => self.warn(&[format!("{word}, and you may not view it: `{}/{name}`", kind.plural())]),
        }
        Ok(())
    }

    /// Adds a document that is not sent.
    pub fn add_unsent(&mut self, document: &Document, word: &str) -> Result<(), Failure> {
        let name = document.name.as_ref().map(Name::as_str).unwrap_or_default();
        if !self.line(document.kind(), name, word)? {
            self.items.push(serde_json::to_value(document)?);
        }
        Ok(())
    }

    /// Prints the line of a resource; `false` where resources are printed whole.
    pub fn line(&self, kind: Kind, name: &str, word: &str) -> Result<bool, Failure> {
        let suffix = self.args.suffix();
        match self.args.output {
            None => data!("{}/{name} {word}{suffix}", kind.plural())?,
            Some(WriteFormat::Name) => data!("{}/{name}", kind.plural())?,
            Some(WriteFormat::Json | WriteFormat::Yaml) => return Ok(false),
        }
        Ok(true)
    }

    /// Adds warnings of mcpd.
    pub fn warn(&mut self, warnings: &[String]) {
        self.warnings.add(warnings);
    }

    /// Prints the warnings, then the resources that were added.
    pub fn finish(self) -> Outcome {
        self.warnings.show();
        match (self.args.output, self.items.as_slice()) {
            (_, []) => {}
            (Some(WriteFormat::Json), [item]) => data!("{}", pretty(item)?)?,
            (Some(WriteFormat::Json), items) => {
                data!("{}", pretty(&json!({"kind": "List", "items": items}))?)?;
            }
            (_, items) => {
                let documents = items.iter().map(output::yaml).collect::<Result<Vec<_>, _>>()?;
                data!("{}", documents.join("---\n").trim_end())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    Ok(serde_json::to_string_pretty(value)?)
}
