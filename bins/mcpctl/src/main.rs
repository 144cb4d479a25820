//! `mcpctl`: the command line. Reads like kubectl: data on stdout, everything else on stderr, exit code 0 done, 1 failed,
//! 2 wrong usage.

#[macro_use]
mod output;
mod agent;
mod commands;
mod context;
mod failure;
mod server_keys;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{commands::Cli, failure::Failure};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => return usage::report(&error),
        // Help and version.
        Err(shown) => shown.exit(),
    };
    let follows = cli.follows();
    let done = tokio::select! {
        biased;
        done = commands::run(cli) => done,
        // A command that waits for the next line would notice the closed pipe only when it writes.
        () = output::terminal::reader_left(), if follows => Ok(ExitCode::SUCCESS),
    };
    match done {
        Ok(code) => code,
        Err(failure) => output::report(&failure),
    }
}

/// The result of a command.
type Outcome = Result<ExitCode, Failure>;
