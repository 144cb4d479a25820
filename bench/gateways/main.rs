//! What a request costs at our daemons, beside a minimal pass-through and other gateways in the same run: `cargo xtask bench`.
//!
//! The system under test has one core, everything else the other: the model server, which answers at once, and the load. Systems
//! take turns within each round, so that a slow moment of the machine meets all of them; a ratio is the median of the rounds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]

mod load;
mod measure;
#[path = "../messages.rs"]
mod messages;
mod pass_through;
mod placement;
mod profile;
mod report;
mod rows;
mod systems;
mod upstream;

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;

/// Measures the daemons beside a minimal pass-through and other gateways.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Args {
    /// Only these rows
    #[arg(value_enum)]
    rows: Vec<rows::RowName>,
    /// Only these systems, besides the pass-through
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<systems::SystemName>,
    /// How often each row is measured at each system
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one measurement takes, in seconds
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Write a flame graph of each row at each of our daemons to this folder; needs `perf`
    #[arg(long, value_name = "DIR")]
    profile: Option<PathBuf>,
    /// Forward everything to this address, as the system that the others are compared with
    #[arg(long, hide = true, value_name = "ADDRESS")]
    pass_through: Option<SocketAddr>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Some(upstream) = args.pass_through {
        runtime.block_on(pass_through::serve(upstream));
        return ExitCode::SUCCESS;
    }
    let descriptors = mcpctl_server::raise_descriptor_limit().unwrap();
    placement::use_core(placement::LOAD);
    let plan = measure::Plan {
        rows: rows::chosen(&args.rows, descriptors),
        systems: systems::chosen(&args.systems),
        rounds: args.rounds.max(1),
        window: Duration::from_secs(args.seconds.max(1)),
        profile: args.profile,
    };
    let results = runtime.block_on(measure::run(&plan));
    if report::print(&plan, &results) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
