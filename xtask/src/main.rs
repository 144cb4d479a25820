//! The project's tasks, run as `cargo xtask TASK`: what CI checks beyond tests, and the tests themselves. Each
//! task is a file of its own; nothing here is part of the product.

mod bench;
mod book;
mod check;
mod demo;
mod dist;
mod figures;
mod fuzz;
mod instructions;
mod model;
mod programs;
mod reference;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use owo_colors::OwoColorize as _;

/// Tasks of this repository.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// What a request costs, beside a minimal pass-through and other gateways
    Bench(bench::Args),
    /// The documents as a book in `target/book`; installs mdBook into the cache directory once
    Book(book::Args),
    /// Formatting, lints, levels, file sizes, licences, generated documents
    Check(check::Args),
    /// See it work: real daemons, a real model, the story step by step
    Demo(demo::Args),
    /// What is installed: an archive, Debian packages, the image's file system, checksums; needs cargo-deb
    Dist(dist::Args),
    /// What is promised in numbers, measured
    Figures(figures::Args),
    /// What strangers can send, under libFuzzer; needs a nightly compiler and cargo-fuzz
    Fuzz(fuzz::Args),
    /// What the pure parts of a request take in instructions, compared with what is stored; needs valgrind
    Instructions(instructions::Args),
    /// Fetch llama-server and a small model, and print what mcplocal.yaml needs for them
    Model,
    /// Write the pages of docs/reference that come from the code
    Reference,
    /// Every test: unit, integration, whole daemons, documentation
    Test(test::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Bench(args) => bench::run(&args),
        Task::Book(args) => book::run(&args),
        Task::Check(args) => check::run(&args),
        Task::Demo(args) => demo::run(&args),
        Task::Dist(args) => dist::run(&args),
        Task::Figures(args) => figures::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Instructions(args) => instructions::run(&args),
        Task::Model => model::run(),
        Task::Reference => reference::run(),
        Task::Test(args) => test::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            anstream::eprintln!("{} {error:#}", "error:".red().bold());
            ExitCode::FAILURE
        }
    }
}
