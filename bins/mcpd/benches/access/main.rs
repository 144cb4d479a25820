//! The figures of access that ends, on daemons built for release: `cargo xtask figures access`. Two replicas share one PostgreSQL; times
//! are from the acknowledgement of a write. Ends with an error where a bound is exceeded.
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
mod local;
mod probes;
mod stale;
mod table;

use std::process::ExitCode;

use table::Table;

fn main() -> ExitCode {
    mcpctl_server::raise_descriptor_limit().unwrap();
    let only: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let within = tokio::runtime::Runtime::new().unwrap().block_on(figures(&only));
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn figures(only: &[String]) -> bool {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|word| word == name);
    let mut table = Table::default();
    if wanted("stale") {
        stale::figures(&mut table).await;
    }
    if wanted("notice") {
        central::notice(&mut table).await;
    }
    if wanted("streams") {
        central::streams(&mut table).await;
    }
    if wanted("partition") {
        central::partition(&mut table).await;
    }
    if wanted("local") {
        local::streams(&mut table).await;
        local::partition(&mut table).await;
    }
    if wanted("probes") {
        probes::figures(&mut table).await;
    }
    if wanted("feeds") {
        feeds::figures(&mut table).await;
    }
    if wanted("kills") {
        kill::figures(&mut table).await;
    }
    table.within()
}
