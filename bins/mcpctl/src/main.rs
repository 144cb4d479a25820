//! `mcpctl`: the command line. Reads like kubectl: data on stdout, everything else on stderr, exit code 0 done, 1 failed,
//! 2 wrong usage.

#[macro_use]
mod output;
mod agent;
mod commands;
mod context;
mod failure;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{commands::Cli, failure::Failure};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(cli).await {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// What a command comes to.
type Outcome = Result<ExitCode, Failure>;
