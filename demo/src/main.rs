//! The demo, started by `cargo xtask demo`: the main job of the product, on real parts, shown and checked step by step.
//! A program of its own, so that the other tasks build without an HTTP client.

mod chat;
mod programs;
mod relay;
mod story;
mod world;

use std::process::ExitCode;

use clap::Parser;
use owo_colors::OwoColorize as _;

/// The demo; `cargo xtask demo` builds the programs and starts it.
#[derive(Parser)]
#[command(name = "demo")]
struct Cli {
    /// Leave everything running at the end, and print how to use it
    #[arg(long, conflicts_with = "headless")]
    keep: bool,
    /// Print plainly, for logs
    #[arg(long)]
    headless: bool,
}

fn main() -> ExitCode {
    let Cli { keep, headless } = Cli::parse();
    match story::run(keep, headless) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{} {error:#}", "error:".red().bold());
            ExitCode::FAILURE
        }
    }
}
