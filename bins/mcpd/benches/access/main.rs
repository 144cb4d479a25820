//! The figures of access that ends, on daemons built for release: `cargo xtask figures access`. Two replicas share one PostgreSQL.
//! A time counts from the *sending* of the write that takes access away, so that it is never shorter than what callers see. Ends with
//! an error where a target is missed; what cannot be measured counts as missed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

mod central;
mod feeds;
mod kill;
mod load;
mod local;
mod probes;
mod stale;
mod table;

use std::{
    panic::AssertUnwindSafe,
    process::ExitCode,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, future::LocalBoxFuture};
use mcpctl_server::ShutdownSignal;
use table::Table;

/// How long all figures may take together.
const TIME_LIMIT: Duration = Duration::from_secs(15 * 60);

/// Measures some figures, which it adds to the table.
type Part = for<'a> fn(&'a mut Table) -> LocalBoxFuture<'a, ()>;

/// What can be chosen, with how long it may take, in seconds.
const PARTS: [(&str, u64, Part); 9] = [
    ("stale", 120, |table| stale::figures(table).boxed_local()),
    ("notice", 60, |table| central::notice(table).boxed_local()),
    ("streams", 120, |table| central::streams(table).boxed_local()),
    ("partition", 90, |table| central::partition(table).boxed_local()),
    ("local", 180, |table| local::streams(table).boxed_local()),
    ("local", 120, |table| local::partition(table).boxed_local()),
    ("probes", 120, |table| probes::figures(table).boxed_local()),
    ("feeds", 180, |table| feeds::figures(table).boxed_local()),
    ("kills", 480, |table| kill::figures(table).boxed_local()),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    mcpctl_server::raise_descriptor_limit().unwrap();
    if words.first().is_some_and(|word| word == load::COMMAND) {
        load::run();
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = words.iter().find(|word| !PARTS.iter().any(|(name, ..)| name == word)) {
        println!("there is no figure `{unknown}`");
        return ExitCode::FAILURE;
    }
    let within = tokio::runtime::Runtime::new().unwrap().block_on(figures(&words));
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn figures(only: &[String]) -> bool {
    let mut shutdown = ShutdownSignal::new().unwrap();
    let mut table = Table::default();
    let end = Instant::now() + TIME_LIMIT;
    for (name, seconds, part) in PARTS {
        if !only.is_empty() && !only.iter().any(|word| word == name) {
            continue;
        }
        let limit = Duration::from_secs(seconds).min(end.saturating_duration_since(Instant::now()));
        // What is dropped ends its daemons, also where it panics.
        let measured = AssertUnwindSafe(tokio::time::timeout(limit, part(&mut table))).catch_unwind();
        let failed = tokio::select! {
            measured = measured => match measured {
                Ok(Ok(())) => continue,
                Ok(Err(_)) => format!("not measured within {} s", limit.as_secs()),
                Err(_) => "it failed".to_owned(),
            },
            () = shutdown.recv() => return false,
        };
        table.failed(name, &failed);
    }
    table.close()
}
