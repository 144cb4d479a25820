//! The figures of an installation that is kept: `cargo xtask figures team`. A store is filled with a gigabyte of records; then it is backed
//! up beside its daemon, restored, and moved to PostgreSQL and back. Beside ten million rows of usage, questions about it are asked. Ends
//! with an error where a target is missed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs
)]

mod beside;
mod filling;
#[path = "../access/table.rs"]
mod table;
mod usage;

use std::{
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, UNBOUNDED_WRITES, program},
    model_server::{ModelServer, Reply},
    postgres::Postgres,
};
use table::Table;

/// Size of the store, in MiB, where no number is given.
const MEBIBYTES: u64 = 1024;
/// Rows of usage, where no number is given.
const USAGE_ROWS: usize = 10_000_000;
/// Time for each gigabyte, of a command that reads.
const READ_TARGET: Duration = Duration::from_secs(120);
/// Time for each gigabyte, of a command that writes a database with its indexes.
const WRITE_TARGET: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let numbers: Result<Vec<u64>, _> = words.iter().map(|word| word.parse()).collect();
    let (mebibytes, usage_rows) = match numbers.as_deref() {
        Ok([]) => (MEBIBYTES, USAGE_ROWS),
        Ok([mebibytes]) => (*mebibytes, USAGE_ROWS),
        Ok([mebibytes, rows]) => (*mebibytes, usize::try_from(*rows).unwrap()),
        _ => {
            println!("a number of MiB and one of rows of usage are expected");
            return ExitCode::FAILURE;
        }
    };
    let within = tokio::runtime::Runtime::new().unwrap().block_on(all(mebibytes, usage_rows));
    if within { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The commands on one installation.
struct Installation {
    key: PathBuf,
    mebibytes: u64,
}

impl Installation {
    /// Runs a command and measures how long it takes.
    fn times(
        &self,
        table: &mut Table,
        what: &str,
        target: Duration,
        words: &[&str],
        data_dir: &Path,
        url: Option<&str>,
    ) {
        let begun = Instant::now();
        let done = self.command(words, data_dir, url).output().unwrap();
        let took = begun.elapsed();
        if !done.status.success() {
            return table.failed(what, &String::from_utf8_lossy(&done.stderr));
        }
        table.times(what, vec![took], 1.0, self.target(target));
    }

    fn target(&self, of_gigabyte: Duration) -> Duration {
        let parts = u32::try_from(self.mebibytes.div_ceil(1024)).unwrap();
        of_gigabyte * parts
    }

    fn command(&self, words: &[&str], data_dir: &Path, url: Option<&str>) -> Command {
        let mut command = Command::new(program("mcpd"));
        command.args(words).arg("--data-dir").arg(data_dir).arg("--master-key-file").arg(&self.key);
        if let Some(url) = url {
            command.args(["--database-url", url]);
        }
        command
    }
}

/// Each part begins with stores of its own; 0 leaves one out.
async fn all(mebibytes: u64, usage_rows: usize) -> bool {
    let mut table = Table::default();
    if mebibytes > 0 {
        let kept = AssertUnwindSafe(figures(mebibytes, &mut table)).catch_unwind();
        if kept.await.is_err() {
            table.failed("the store that is kept", "it failed");
        }
    }
    for database in ["SQLite", "PostgreSQL"].into_iter().filter(|_| usage_rows > 0) {
        let postgres = (database == "PostgreSQL").then(Postgres::start);
        let options =
            McpdOptions { database_url: postgres.as_ref().map(Postgres::url), ..McpdOptions::default() };
        // What is dropped ends its daemons, also where it panics.
        let asked =
            AssertUnwindSafe(usage::figures(database, options, usage_rows, &mut table)).catch_unwind();
        if asked.await.is_err() {
            table.failed(&format!("{database}: usage"), "it failed");
        }
    }
    table.close()
}

async fn figures(mebibytes: u64, table: &mut Table) {
    let (postgres, dir) = (Postgres::start(), tempfile::tempdir().unwrap());
    let url = postgres.url();
    let model = ModelServer::with_default(Reply::text("Hi")).await;
    let config = format!("{UNBOUNDED_WRITES}upstreamAddresses: {{loopback: true}}\n");
    let mut options = McpdOptions { config: Some(config), ..McpdOptions::default() };
    let mut mcpd = Mcpd::start_with(options.clone()).await;
    mcpd.llm_with_default_timeouts("gpt", &model.base_url()).await;
    let alice = mcpd.user("alice", Some("llm-user")).await;
    let admin = mcpd.admin();
    mcpd.terminate();
    mcpd.wait();
    let data_dir = mcpd.data_dir();
    let begun = Instant::now();
    let rows = filling::fill(&data_dir, mebibytes).await;
    table.note(&format!(
        "{rows} records in {mebibytes} MiB, filled in {:.0} s",
        begun.elapsed().as_secs_f64()
    ));
    let installation = Installation { key: data_dir.join("master-key"), mebibytes };
    let callers = beside::Callers { alice, admin };

    mcpd.restart().await;
    let file = dir.path().join("of-sqlite");
    beside::backup(&installation, &mcpd, &callers, "SQLite", &file, None, table).await;
    mcpd.terminate();
    mcpd.wait();
    let mut run = |what: &str, target, words: &[&str], data_dir: &Path, url: Option<&str>| {
        installation.times(table, what, target, words, data_dir, url);
    };
    let name = file.to_str().unwrap();
    let (restored, back) = (dir.path().join("restored"), dir.path().join("back"));
    run("a backup is verified", READ_TARGET, &["backup", "--verify", name], &data_dir, None);
    run("SQLite: a restore", WRITE_TARGET, &["restore", name], &restored, None);
    run("SQLite: fsck", READ_TARGET, &["fsck"], &restored, None);
    run("from SQLite to PostgreSQL", WRITE_TARGET, &["migrate", "--to", &url], &data_dir, None);
    run("from PostgreSQL to SQLite", WRITE_TARGET, &["migrate", "--to", "sqlite"], &back, Some(&url));
    run("PostgreSQL: fsck", READ_TARGET, &["fsck"], &data_dir, Some(&url));

    options.database_url = Some(url.clone());
    options.data_dir = Some(data_dir.clone());
    let mut shared = Mcpd::start_with(options).await;
    let file = dir.path().join("of-postgres");
    beside::backup(&installation, &shared, &callers, "PostgreSQL", &file, Some(&url), table).await;
    shared.terminate();
    shared.wait();
    let words = ["restore", file.to_str().unwrap(), "--replace", "--yes"];
    installation.times(table, "PostgreSQL: a restore", WRITE_TARGET, &words, &data_dir, Some(&url));
}
