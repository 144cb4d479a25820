//! `cargo xtask bench`: what a request costs at the daemons, built for release, beside other gateways.

use anyhow::Result;

use xtask::cargo;

/// What `cargo xtask bench` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Arguments of the benchmark, e.g. `small --systems mcpd --rounds 3`; `--help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Builds and measures; fails where a target is missed.
pub(crate) fn run(args: &Args) -> Result<()> {
    cargo::run(&["build", "--package", "mcpd", "--package", "mcplocal", "--bins", "--release", "--locked"])?;
    let mut bench = vec!["bench", "--package", "mcpctl-bench", "--bench", "gateways", "--locked", "--"];
    bench.extend(args.arguments.iter().map(String::as_str));
    cargo::run(&bench)
}
