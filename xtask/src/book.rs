//! `cargo xtask book`: the documents as a book, by mdBook (MPL-2.0), which is installed once into the cache directory and is
//! no dependency of anything here.

use std::{net::Ipv4Addr, process::Command};

use anyhow::{Context as _, Result, bail};

use xtask::{cargo, engines};

/// What is installed.
const VERSION: &str = "0.5.4";

/// What `cargo xtask book` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show it in the browser when it is built
    #[arg(long)]
    open: bool,
    /// Serve it on loopback at this port, and build it anew whenever a document changes
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "3000")]
    serve: Option<u16>,
}

/// What mdBook complains about; nothing where it is not installed, beside a line that states so: the links, the headings and the table
/// of contents are checked without it.
pub(crate) fn findings() -> Result<Vec<String>> {
    let program = engines::cache_dir()?.join("mdbook/bin/mdbook");
    if !program.is_file() {
        anstream::eprintln!("without a build of the book: `cargo xtask book` installs mdBook");
        return Ok(Vec::new());
    }
    let place = tempfile::tempdir()?;
    let mut command = Command::new(program);
    command.arg("build").arg("--dest-dir").arg(place.path()).current_dir(cargo::root().join("docs"));
    let output = command.output().context("mdBook cannot be started")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let mut findings = complaints(&text);
    if !output.status.success() && findings.is_empty() {
        findings.push(format!("mdBook failed ({}): {text}", output.status));
    }
    Ok(findings)
}

/// The lines of its log that are no mere information.
fn complaints(log: &str) -> Vec<String> {
    let lines = log.lines().map(str::trim);
    let complaints = lines.filter(|line| ["WARN", "ERROR"].iter().any(|level| line.starts_with(level)));
    complaints.map(|line| format!("mdBook: {line}")).collect()
}

/// Builds the book into `target/book`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let directory = engines::cache_dir()?.join("mdbook");
    engines::once(&directory, VERSION, |directory| {
        anstream::eprintln!("installing mdBook {VERSION} (once, some minutes)");
        let root = directory.display().to_string();
        cargo::run(&["install", "mdbook", "--version", VERSION, "--locked", "--root", &root])
    })?;
    let mut command = Command::new(directory.join("bin/mdbook"));
    match args.serve {
        Some(port) => command
            .args(["serve", "--hostname", &Ipv4Addr::LOCALHOST.to_string()])
            .args(["--port", &port.to_string()]),
        None => command.arg("build"),
    };
    if args.open {
        command.arg("--open");
    }
    let status =
        command.current_dir(cargo::root().join("docs")).status().context("mdBook cannot be started")?;
    if !status.success() {
        bail!("mdBook failed ({status})");
    }
    if args.serve.is_none() {
        anstream::println!("{}", cargo::root().join("target/book/index.html").display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn information_is_no_complaint() {
        let log = " INFO Book building has started\n WARN unclosed HTML tag `<b>`\nERROR no chapter\n";
        assert_eq!(complaints(log), ["mdBook: WARN unclosed HTML tag `<b>`", "mdBook: ERROR no chapter"]);
    }
}
