//! `cargo xtask figures`: what is promised in numbers, measured on programs that are built for release.

use anyhow::Result;

use xtask::cargo;

/// What `cargo xtask figures` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    of: Of,
}

#[derive(clap::Subcommand)]
enum Of {
    /// Local engines: failing over, cancelling, a thousand cycles with kills, an idle agent
    Engine {
        /// Only figures with one of these words in their name: failover, cancel, idle, cycles
        only: Vec<String>,
    },
}

/// Builds, measures, and fails where a limit is exceeded.
pub(crate) fn run(args: &Args) -> Result<()> {
    let Of::Engine { only } = &args.of;
    cargo::run(&["build", "--workspace", "--bins", "--release", "--locked"])?;
    cargo::run(&["build", "--package", "mcpctl-engine", "--examples", "--release", "--locked"])?;
    let mut bench = vec!["bench", "--package", "mcplocal", "--bench", "engine", "--locked", "--"];
    bench.extend(only.iter().map(String::as_str));
    cargo::run(&bench)
}
