//! `cargo xtask check`: everything CI holds the code to that is no test. All rules run, the quick ones first, and
//! all findings are shown, so that one run tells everything there is to mend.

mod levels;
mod licences;
mod metadata;
mod openapi;
mod sizes;

use anyhow::{Result, bail};
use owo_colors::OwoColorize as _;

use crate::cargo;
use metadata::Metadata;

/// A rule's name, and what finds what breaks it.
type Rule<'a> = (&'static str, &'a dyn Fn() -> Result<Vec<String>>);

/// Runs every rule; an error names those that found something.
pub(crate) fn run() -> Result<()> {
    let metadata = Metadata::load()?;
    let rules: [Rule<'_>; 6] = [
        ("levels", &|| levels::findings(&metadata)),
        ("licences", &|| Ok(licences::findings(&metadata))),
        ("file sizes", &|| sizes::findings(&cargo::root())),
        ("formatting", &|| finding(&["fmt", "--all", "--check"])),
        ("clippy", &|| {
            finding(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
        }),
        ("generated documents", &|| openapi::findings(&metadata)),
    ];
    let mut failed = Vec::new();
    for (rule, check) in rules {
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
    bail!("{} of {} checks failed: {}", failed.len(), rules.len(), failed.join(", "));
}

/// A rule that another program decides and explains.
fn finding(args: &[&str]) -> Result<Vec<String>> {
    Ok(cargo::run(args).err().map(|error| error.to_string()).into_iter().collect())
}
