//! `cargo xtask figures`: what is promised, measured. Figures in numbers come from programs that are built for release, tables of
//! faults and clients from the tests of whole daemons.

mod grid;
mod inference;

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
    /// Access that ends: stale allows, notices, streams that are cut, probes under load, daemons that are killed
    Access {
        /// Only these figures: stale, notice, streams, partition, local, probes, feeds, kills
        only: Vec<String>,
    },
    /// Local engines: failing over, cancelling, a thousand cycles with kills, an idle agent
    Engine {
        /// Only figures with one of these words in their name: failover, cancel, idle, cycles
        only: Vec<String>,
    },
    /// A large store: writes, decisions beside them, lists, memory and a start
    Growth {
        /// Bindings, and tokens; a tenth as many users and a hundredth as many Llms [default: 100000]
        bindings: Option<usize>,
        /// Rows of audit, and of usage, beside which requests are measured at the end [default: 10000000]
        records: Option<usize>,
    },
    /// An installation that is kept: backup, restore, moving and checking a store with a gigabyte of records, and questions about usage
    Team {
        /// Size of the store in MiB; 0 leaves it out [default: 1024]
        mebibytes: Option<u64>,
        /// Rows of usage beside which questions are asked; 0 leaves them out [default: 10000000]
        usage_rows: Option<u64>,
    },
    /// Inference: what callers get of every fault, and what real clients can do
    Inference(inference::Args),
}

/// Builds, measures, and fails where a limit is exceeded, or a cell of a table has failed.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.of {
        Of::Access { only } => access(only),
        Of::Engine { only } => engine(only),
        Of::Growth { bindings, records } => growth(*bindings, *records),
        Of::Team { mebibytes, usage_rows } => team(*mebibytes, *usage_rows),
        Of::Inference(args) => inference::run(args),
    }
}

fn access(only: &[String]) -> Result<()> {
    cargo::run(&["build", "--package", "mcpd", "--package", "mcplocal", "--bins", "--release", "--locked"])?;
    let mut bench = vec!["bench", "--package", "mcpd", "--bench", "access", "--locked", "--"];
    bench.extend(only.iter().map(String::as_str));
    cargo::run(&bench)
}

fn growth(bindings: Option<usize>, records: Option<usize>) -> Result<()> {
    cargo::run(&["build", "--package", "mcpd", "--package", "mcpctl", "--bins", "--release", "--locked"])?;
    let numbers: Vec<_> = bindings.into_iter().chain(records).map(|number| number.to_string()).collect();
    let mut bench = vec!["bench", "--package", "mcpd", "--bench", "growth", "--locked", "--"];
    bench.extend(numbers.iter().map(String::as_str));
    cargo::run(&bench)
}

fn team(mebibytes: Option<u64>, usage_rows: Option<u64>) -> Result<()> {
    cargo::run(&["build", "--package", "mcpd", "--bins", "--release", "--locked"])?;
    let numbers: Vec<_> = mebibytes.into_iter().chain(usage_rows).map(|number| number.to_string()).collect();
    let mut bench = vec!["bench", "--package", "mcpd", "--bench", "team", "--locked", "--"];
    bench.extend(numbers.iter().map(String::as_str));
    cargo::run(&bench)
}

fn engine(only: &[String]) -> Result<()> {
    cargo::run(&["build", "--workspace", "--bins", "--release", "--locked"])?;
    cargo::run(&["build", "--package", "mcpctl-engine", "--examples", "--release", "--locked"])?;
    let mut bench = vec!["bench", "--package", "mcplocal", "--bench", "engine", "--locked", "--"];
    bench.extend(only.iter().map(String::as_str));
    cargo::run(&bench)
}
