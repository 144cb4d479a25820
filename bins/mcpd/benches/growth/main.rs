//! The figures of a large store, on daemons built for release: `cargo xtask figures growth`. Each database is filled, and then asked
//! what grows with it: writes, decisions beside them, lists, memory and a start; then requests beside millions of records. Ends with
//! an error where a target is missed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

mod filling;
mod reads;
mod records;
#[path = "../access/table.rs"]
mod table;
mod writes;

use std::{
    panic::AssertUnwindSafe,
    process::ExitCode,
    time::{Duration, Instant},
};

use filling::Size;
use futures::FutureExt as _;
use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, UNBOUNDED_WRITES},
    model_server::{ModelServer, Reply},
    postgres::Postgres,
    process::resident_bytes,
};
use table::Table;

/// Bindings, and tokens, where no number is given.
const BINDINGS: usize = 100_000;
/// Rows of audit, and of usage, where no second number is given.
const RECORDS: usize = 10_000_000;
const START_TARGET: Duration = Duration::from_secs(2);
const MEMORY_TARGET_MIB: usize = 300;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let numbers: Result<Vec<usize>, _> = words.iter().map(|word| word.parse()).collect();
    let (bindings, records) = match numbers.as_deref() {
        Ok([]) => (BINDINGS, RECORDS),
        Ok([bindings]) => (*bindings, RECORDS),
        Ok([bindings, records]) => (*bindings, *records),
        _ => {
            println!("a number of bindings and one of records are expected");
            return ExitCode::FAILURE;
        }
    };
    let figures = figures(Size::of(bindings), records);
    let within = tokio::runtime::Runtime::new().unwrap().block_on(figures);
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn figures(size: Size, records: usize) -> bool {
    let mut table = Table::default();
    let postgres = Postgres::start();
    let config = Some(format!("{UNBOUNDED_WRITES}upstreamAddresses: {{loopback: true}}\n"));
    let options = McpdOptions { config, ..McpdOptions::default() };
    let shared = McpdOptions { database_url: Some(postgres.url()), ..options.clone() };
    for (database, options) in [("SQLite", options), ("PostgreSQL", shared)] {
        // What is dropped ends its daemons, also where it panics.
        let measured =
            AssertUnwindSafe(of_database(database, options, (size, records), &mut table)).catch_unwind();
        if measured.await.is_err() {
            table.failed(database, "it failed");
        }
    }
    table.close()
}

async fn of_database(name: &str, options: McpdOptions, (size, records): (Size, usize), table: &mut Table) {
    let model = ModelServer::with_default(Reply::text("Hi")).await;
    let mut mcpd = Mcpd::start_with(options.clone()).await;
    let begun = Instant::now();
    filling::by_api(&mcpd, size, &model.base_url()).await;
    let owners = filling::owners(&mcpd).await;
    mcpd.terminate();
    mcpd.wait();
    filling::tokens(&mcpd.data_dir(), options.database_url.as_deref(), size, &owners).await;
    table.note(&format!("{name}: {size}, filled in {:.0} s", begun.elapsed().as_secs_f64()));
    let begun = Instant::now();
    mcpd.restart().await;
    table.times(&format!("{name}: a start"), vec![begun.elapsed()], 1.0, START_TARGET);
    writes::figures(&mcpd, name, table).await;
    reads::figures(&mcpd, name, table).await;
    let mib = usize::try_from(resident_bytes(mcpd.pid()) >> 20).unwrap();
    table.count(&format!("{name}: memory, MiB"), mib, MEMORY_TARGET_MIB);
    if records > 0 {
        mcpd.terminate();
        mcpd.wait();
        records::fill(&mcpd.data_dir(), options.database_url.as_deref(), records, size.users).await;
        mcpd.restart().await;
        records::figures(&mcpd, name, records, table).await;
    }
}
