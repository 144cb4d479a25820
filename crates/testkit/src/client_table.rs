//! The table of real clients: what each one did at each daemon over each upstream, written into the target folder by the test
//! that ran it, for `cargo xtask figures inference`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// The folder in the target folder: one file per client, daemon and upstream, each a JSON array of cells with `client`,
/// `operation`, `daemon`, `upstream`, `outcome` (`pass`, `refused` or `fail`) and `detail`.
pub const FOLDER: &str = "client-table";

/// What became of one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The client got what it asked for.
    Pass,
    /// The upstream cannot express what the client asked for, and the client got an error that names it.
    Refused,
    /// Anything else, with the reason.
    Fail(String),
}

/// The cells of one client at one daemon over one upstream.
#[derive(Debug)]
pub struct Cells {
    client: String,
    daemon: String,
    upstream: String,
    cells: Vec<(String, Outcome)>,
}

impl Cells {
    /// No cells yet. `client` has its version in it; `daemon` is `mcpd`, or `mcplocal` for the agent in failover.
    pub fn new(client: &str, daemon: &str, upstream: &str) -> Self {
        Self { client: client.into(), daemon: daemon.into(), upstream: upstream.into(), cells: Vec::new() }
    }

    /// Adds the outcome of an operation.
    pub fn add(&mut self, operation: &str, outcome: Outcome) {
        self.cells.push((operation.into(), outcome));
    }

    /// Writes the file, and fails the test if a cell has failed.
    pub fn finish(self) {
        let failed = self.write();
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }

    /// Writes the file, and returns what failed, a line for each cell.
    pub fn write(self) -> Vec<String> {
        let folder = target().join(FOLDER);
        fs::create_dir_all(&folder).expect("a folder");
        let cells: Vec<Value> =
            self.cells.iter().map(|(operation, outcome)| self.cell(operation, outcome)).collect();
        let name = [self.client.as_str(), &self.daemon, &self.upstream].join("_").replace(['/', ' '], "-");
        let text = serde_json::to_string_pretty(&cells).expect("values are JSON");
        fs::write(folder.join(format!("{name}.json")), text + "\n").expect("the file of cells");
        self.cells.iter().filter_map(|(operation, outcome)| self.failure(operation, outcome)).collect()
    }

    fn failure(&self, operation: &str, outcome: &Outcome) -> Option<String> {
        let Outcome::Fail(reason) = outcome else { return None };
        let Self { client, daemon, upstream, .. } = self;
        Some(format!("{client} at {daemon} over {upstream}: {operation}: {reason}"))
    }

    fn cell(&self, operation: &str, outcome: &Outcome) -> Value {
        let (outcome, detail) = match outcome {
            Outcome::Pass => ("pass", None),
            Outcome::Refused => ("refused", None),
            Outcome::Fail(reason) => ("fail", Some(reason)),
        };
        json!({ "client": self.client, "operation": operation, "daemon": self.daemon, "upstream": self.upstream,
            "outcome": outcome, "detail": detail })
    }
}

/// The target folder of the test that runs.
pub fn target() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    // `PROFILE/deps/TEST` in it, whatever CARGO_TARGET_DIR names it.
    test.ancestors().nth(3).map(Path::to_owned).expect("the target folder")
}
