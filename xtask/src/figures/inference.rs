//! `cargo xtask figures inference`: the table of faults and the table of real clients, from cells that the tests of whole daemons
//! write into the target folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use super::grid::Grid;
use crate::{
    check::metadata::Metadata,
    test::{Engines, OF_LLAMA_SERVER},
};
use xtask::cargo;

/// What `cargo xtask figures inference` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these tables [default: faults and official]
    only: Vec<Table>,
}

/// A table, and the tests that fill it.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Table {
    /// Every fault at mcpd and at the agent
    Faults,
    /// The clients of OpenAI and Anthropic
    Official,
    /// Other clients and programs, as `cargo xtask test clients`: some fetch hundreds of megabytes
    Programs,
}

/// The folders in the target folder, as `mcpctl_testkit::fault_table` and `client_table` name them.
const FAULTS: &str = "fault-table";
const CLIENTS: &str = "client-table";

impl Table {
    /// The name of the test programs that write its cells.
    const fn tests(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Official => "official",
            Self::Programs => "clients",
        }
    }

    const fn folder(self) -> &'static str {
        match self {
            Self::Faults => FAULTS,
            Self::Official | Self::Programs => CLIENTS,
        }
    }
}

/// A cell of the table of faults: what callers of one dialect got.
#[derive(Debug, Deserialize)]
struct FaultCell {
    fault: String,
    daemon: String,
    mode: String,
    caller: String,
    stream: bool,
    grade: String,
    detail: Option<String>,
}

/// A cell of the table of clients.
#[derive(Debug, Deserialize)]
struct ClientCell {
    client: String,
    operation: String,
    daemon: String,
    upstream: String,
    outcome: String,
    detail: Option<String>,
}

/// Runs the tests, prints the tables, and fails where a cell or a test has failed.
pub(super) fn run(args: &Args) -> Result<()> {
    let tables = if args.only.is_empty() { vec![Table::Faults, Table::Official] } else { args.only.clone() };
    let target = Metadata::load()?.target_directory;
    // Cells of an earlier run are no figures of this one.
    for folder in tables.iter().map(|table| target.join(table.folder())) {
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} cannot be emptied", folder.display()));
            }
            _ => {}
        }
    }
    cargo::build_programs()?;
    cargo::run(&["build", "--workspace", "--examples", "--locked"])?;
    let engines =
        if tables.contains(&Table::Official) { Engines::of_every_run()? } else { Engines::default() };
    let mut broken = Vec::new();
    for table in &tables {
        // Of the whole workspace, as `cargo xtask test` builds it. All tables are printed, whatever failed.
        let mut words = vec!["test", "--workspace", "--locked", "--no-fail-fast", "--test", table.tests()];
        words.extend(["--", "--include-ignored"]);
        if engines.without_llama_server {
            words.extend(["--skip", OF_LLAMA_SERVER]);
        }
        let variables = engines.variables.iter().map(|(name, value)| (name, value));
        let status = cargo::command(&words).envs(variables).status().context("cargo cannot be started")?;
        if !status.success() {
            broken.push(format!("`cargo {}` failed ({status})", words.join(" ")));
        }
    }
    let mut failed = Vec::new();
    if tables.contains(&Table::Faults) {
        let cells = read(&target.join(FAULTS))?;
        show(&fault_grids(&cells), "pass: a proper answer; safe: an honest error; FAIL: anything else");
        failed.extend(cells.iter().filter_map(failed_fault));
    }
    if tables.iter().any(|table| table.folder() == CLIENTS) {
        let cells = read(&target.join(CLIENTS))?;
        show(&client_grids(&cells), "refused: the provider's API cannot express it, and the error names it");
        failed.extend(cells.iter().filter_map(failed_client));
    }
    for line in &failed {
        anstream::println!("{line}");
    }
    match (failed.len(), broken.is_empty()) {
        (0, true) => Ok(()),
        (0, false) => bail!("{}", broken.join("; ")),
        (count, _) => bail!("{count} cells failed"),
    }
}

/// The cells of all files of a folder, in the order of the files' names.
fn read<T: for<'a> Deserialize<'a>>(folder: &Path) -> Result<Vec<T>> {
    let entries = fs::read_dir(folder).with_context(|| format!("no test wrote into {}", folder.display()))?;
    let paths: BTreeSet<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let mut cells = Vec::new();
    for path in paths {
        let of_file: Vec<T> = serde_json::from_slice(&fs::read(&path)?)
            .with_context(|| format!("{} is not a list of cells", path.display()))?;
        cells.extend(of_file);
    }
    Ok(cells)
}

fn show(grids: &[Grid], legend: &str) {
    for grid in grids {
        anstream::println!("\n{grid}");
    }
    anstream::println!("{legend}");
}

/// One table per daemon. A cell is the worst of what the callers of all dialects got.
fn fault_grids(cells: &[FaultCell]) -> Vec<Grid> {
    let mut grids: Vec<(&str, Grid)> = Vec::new();
    for cell in cells {
        let at = grids.iter().position(|(daemon, _)| *daemon == cell.daemon).unwrap_or_else(|| {
            grids.push((&cell.daemon, Grid::new(&cell.daemon)));
            grids.len() - 1
        });
        let Some((_, grid)) = grids.get_mut(at) else { continue };
        let text = grid.cell(&cell.fault, if cell.stream { "streamed" } else { "whole" }, &cell.mode);
        let severity = |grade: &str| ["pass", "safe", "FAIL"].iter().position(|known| *known == grade);
        let grade = if cell.grade == "fail" { "FAIL" } else { &cell.grade };
        if text.is_empty() || severity(grade) > severity(text) {
            grade.clone_into(text);
        }
    }
    grids.into_iter().map(|(_, grid)| grid).collect()
}

/// A real model server among the upstreams.
const LLAMA_SERVER: &str = "llama-server";

/// One table per client, and one more of what it did over a real model server.
fn client_grids(cells: &[ClientCell]) -> Vec<Grid> {
    let mut grids: BTreeMap<String, Grid> = BTreeMap::new();
    for cell in cells {
        let of_real_server = cell.upstream.starts_with(LLAMA_SERVER);
        let over = if of_real_server { format!(", {LLAMA_SERVER}") } else { String::new() };
        let title = format!("{}{over}", cell.client);
        let grid = grids.entry(title.clone()).or_insert_with(|| Grid::new(&title));
        let text = match cell.outcome.as_str() {
            "pass" => "pass",
            "refused" => "ref.",
            _ => "FAIL",
        };
        text.clone_into(grid.cell(&cell.operation, &cell.daemon, short(&cell.upstream)));
    }
    grids.into_values().collect()
}

/// An upstream's name in few characters.
fn short(upstream: &str) -> &str {
    match upstream {
        "openai+responses+messages" | "llama-server+responses+messages" => "all",
        "azure-openai" => "azure",
        "anthropic" => "anthr.",
        LLAMA_SERVER => "chat",
        other => other,
    }
}

fn failed_fault(cell: &FaultCell) -> Option<String> {
    let FaultCell { fault, daemon, mode, caller, stream, .. } = cell;
    let form = if *stream { "streamed" } else { "whole" };
    let detail = cell.detail.as_deref().unwrap_or_default();
    (cell.grade == "fail").then(|| format!("FAIL {daemon}, {fault}, {mode}, {caller}, {form}: {detail}"))
}

fn failed_client(cell: &ClientCell) -> Option<String> {
    let ClientCell { client, operation, daemon, upstream, outcome, .. } = cell;
    let detail = cell.detail.as_deref().unwrap_or_default();
    let passed = ["pass", "refused"].contains(&outcome.as_str());
    (!passed).then(|| format!("FAIL {client}, {operation}, {daemon} over {upstream}: {detail}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(caller: &str, grade: &str) -> FaultCell {
        let text = |text: &str| text.to_owned();
        let (fault, daemon, mode) = (text("cut"), text("mcpd"), text("alone"));
        FaultCell {
            fault,
            daemon,
            mode,
            caller: text(caller),
            stream: true,
            grade: text(grade),
            detail: None,
        }
    }

    #[test]
    fn cell_is_the_worst_of_all_dialects() {
        let grids = fault_grids(&[cell("chat", "pass"), cell("messages", "safe"), cell("responses", "pass")]);
        assert!(grids[0].to_string().ends_with("\ncut  safe\n"), "{}", grids[0]);
        let grids = fault_grids(&[cell("chat", "fail"), cell("messages", "safe")]);
        assert!(grids[0].to_string().ends_with("\ncut  FAIL\n"), "{}", grids[0]);
    }

    #[test]
    fn widest_client_fits_a_terminal_with_every_name() {
        let text = |text: &str| text.to_owned();
        let mut cells = Vec::new();
        for daemon in ["mcpd", "mcplocal", "via-mcplocal"] {
            for upstream in [
                "anthropic",
                "azure-openai",
                "openai",
                "openai+responses+messages",
                LLAMA_SERVER,
                "llama-server+responses+messages",
            ] {
                cells.push(ClientCell {
                    client: text("anthropic (Python) 2.14.0"),
                    operation: text("responses tools streamed"),
                    daemon: text(daemon),
                    upstream: text(upstream),
                    outcome: text("pass"),
                    detail: None,
                });
            }
        }
        let grids = client_grids(&cells);
        assert_eq!(grids.len(), 2);
        for grid in grids.iter().map(Grid::to_string) {
            assert!(grid.lines().all(|line| line.len() <= super::super::grid::MAX_WIDTH), "{grid}");
            assert!(grid.contains("\nresponses tools streamed "), "{grid}");
        }
    }
}
