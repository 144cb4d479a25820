//! `mcpctl`: the command line. Reads like kubectl: data on stdout, everything else on stderr, exit code 0 done, 1 failed,
//! 2 wrong usage.

#[macro_use]
mod output;
mod agent;
mod bounded;
mod commands;
mod context;
mod examples;
mod failure;
mod habits;
mod llm_choice;
mod own_path;
mod server_keys;
mod suggest;
mod usage;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::{commands::Cli, failure::Failure};

fn main() -> ExitCode {
    // Before anything else: it works without threads.
    if commands::completion::answered() {
        return ExitCode::SUCCESS;
    }
    run()
}

#[tokio::main(flavor = "current_thread")]
async fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if usage::shows_help(&error) => {
            // Once more, with the examples.
            match examples::add(Cli::command()).try_get_matches() {
                Err(shown) if !shown.use_stderr() => shown.exit(),
                Err(shown) => return usage::report(&shown),
                Ok(_) => return usage::report(&error),
            }
        }
        Err(error) if error.use_stderr() => return usage::report(&error),
        Err(version) => version.exit(),
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
