//! `cargo xtask demo`: builds the programs and becomes the demo, which is a program of its own (`demo/`).

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};
use xtask::{cargo, printer::Printer};

/// What `cargo xtask demo` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave everything running at the end, and print how to use it
    #[arg(long, conflicts_with = "headless")]
    keep: bool,
    /// Print plainly, for logs
    #[arg(long)]
    headless: bool,
}

/// Returns only where the demo cannot be started.
pub(crate) fn run(args: &Args) -> Result<()> {
    Printer::new(args.headless).note("building the programs");
    cargo::build_programs()?;
    let here = std::env::current_exe()?;
    let mut demo = Command::new(here.parent().context("the folder of the programs")?.join("demo"));
    demo.args(args.keep.then_some("--keep")).args(args.headless.then_some("--headless"));
    // In place of this process, so that Ctrl-C and the exit status are the demo's.
    Err(demo.exec()).context("the demo cannot be started")
}
