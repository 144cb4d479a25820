//! The table of faults: what a caller got of each fault at a daemon, written into the target folder by the test that ran it, for
//! `cargo xtask figures inference`.

use std::fs;

use serde_json::{Value, json};

use crate::{
    caller::{Caller, Got},
    client_table::target,
};

/// The folder in the target folder: one file per daemon and part, each a JSON array of cells with `fault`, `daemon`, `mode`, `caller`,
/// `stream`, `grade` (`pass`, `safe` or `fail`) and `detail`.
pub const FOLDER: &str = "fault-table";

/// What makes a cell.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// What fails.
    pub fault: &'static str,
    /// What is there to answer instead.
    pub mode: &'static str,
    /// Who asks.
    pub caller: Caller,
    /// Whether for a stream.
    pub stream: bool,
}

/// The cells of one test.
#[derive(Debug)]
pub struct Cells {
    daemon: &'static str,
    part: &'static str,
    cells: Vec<Value>,
    wrong: Vec<String>,
}

impl Cells {
    /// No cells yet. `part` is the part of the daemon's table that the test fills.
    pub const fn new(daemon: &'static str, part: &'static str) -> Self {
        Self { daemon, part, cells: Vec::new(), wrong: Vec::new() }
    }

    /// Adds a cell; `checked` holds what is not as the contract promises. Such a cell has failed, whatever the caller got.
    pub fn add(&mut self, key: Key, got: &Got, checked: Result<(), String>) {
        let Key { fault, mode, caller, stream } = key;
        let grade = match (got, &checked) {
            (Got::Wrong(_), _) | (_, Err(_)) => "fail",
            (Got::Answer { .. }, Ok(())) => "pass",
            (Got::Error { .. } | Got::Broken { .. }, Ok(())) => "safe",
        };
        let (caller, detail) = (caller.name(), checked.err());
        self.cells.push(json!({ "fault": fault, "daemon": self.daemon, "mode": mode, "caller": caller,
            "stream": stream, "grade": grade, "detail": detail }));
        let form = if stream { "streamed" } else { "whole" };
        self.wrong.extend(detail.map(|detail| format!("{fault}, {mode}, {caller}, {form}: {detail}")));
    }

    /// Writes the file, and fails the test if a cell has failed.
    pub fn finish(self) {
        let folder = target().join(FOLDER);
        fs::create_dir_all(&folder).expect("a folder");
        let text = serde_json::to_string_pretty(&self.cells).expect("values are JSON");
        fs::write(
            folder.join(format!("{}-{}.json", self.daemon.replace([' ', ','], ""), self.part)),
            text + "\n",
        )
        .expect("the file of cells");
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
    }
}
