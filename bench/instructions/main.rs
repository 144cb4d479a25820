//! The pure parts of the way of a request, run as often as asked: `cargo xtask instructions` counts what one run takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

#[path = "../messages.rs"]
mod messages;
mod parts;

use clap::Parser;

use parts::PARTS;

/// Runs a part of the way of a request.
#[derive(Parser)]
struct Args {
    /// The part; without it, all are listed with the number of runs in a round
    part: Option<String>,
    /// How often the part's number of runs
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let Some(name) = args.part else {
        for part in PARTS {
            println!("{} {}", part.name, part.runs);
        }
        return;
    };
    let part = PARTS.iter().find(|part| part.name == name).expect("a part that is listed");
    let mut run = (part.prepare)();
    for _ in 0..args.rounds * part.runs {
        run();
    }
}
