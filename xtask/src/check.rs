//! `cargo xtask check`: everything CI holds the code to that is no test. All rules run, the quick ones first, and
//! all findings are shown, so that one run lists everything there is to fix.

mod circles;
mod docs;
mod levels;
mod licences;
pub(crate) mod metadata;
mod openapi;
mod sizes;
mod words;

use anyhow::{Result, bail};
use owo_colors::OwoColorize as _;

use crate::reference;
use metadata::Metadata;
use xtask::cargo;

/// What `cargo xtask check` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these rules [default: all]
    #[arg(value_parser = RULES)]
    only: Vec<String>,
}

/// The rules' names, in the order in which they run.
const RULES: [&str; 10] =
    ["levels", "circles", "licences", "sizes", "words", "format", "clippy", "openapi", "reference", "docs"];

/// Runs the rules; an error names those that found something.
pub(crate) fn run(args: &Args) -> Result<()> {
    let metadata = Metadata::load()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    let checks: [&dyn Fn() -> Result<Vec<String>>; RULES.len()] = [
        &|| levels::findings(&metadata),
        &|| circles::findings(),
        &|| Ok(licences::findings(&metadata)),
        &|| sizes::findings(&cargo::root()),
        &|| words::findings(&cargo::root()),
        &|| finding(&["fmt", "--all", "--check"]),
        &|| finding(&clippy),
        &|| openapi::findings(&metadata),
        &|| reference::findings(),
        &|| docs::findings(&metadata),
    ];
    let wanted = |rule: &str| args.only.is_empty() || args.only.iter().any(|only| only == rule);
    let mut failed = Vec::new();
    for (rule, check) in RULES.into_iter().zip(checks).filter(|(rule, _)| wanted(rule)) {
        let findings = check().unwrap_or_else(|error| vec![format!("{error:#}")]);
        if findings.is_empty() {
            anstream::eprintln!("{} {rule}", "   ok".green().bold());
            continue;
        }
        anstream::eprintln!("{} {rule}", "FAILS".red().bold());
        for finding in findings {
            anstream::eprintln!("      {finding}");
        }
        failed.push(rule);
    }
    if failed.is_empty() {
        return Ok(());
    }
    bail!("these checks failed: {}", failed.join(", "));
}

/// A rule that another program decides and explains.
fn finding(args: &[&str]) -> Result<Vec<String>> {
    Ok(cargo::run(args).err().map(|error| error.to_string()).into_iter().collect())
}
