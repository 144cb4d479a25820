//! A client of the table: runs its script, and records what came out.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use mcpctl_testkit::{
    client_table::{Cells, Outcome},
    node, python,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// One of the official clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    OpenaiPython,
    OpenaiNode,
    AnthropicPython,
    AnthropicNode,
}

use Client::{AnthropicPython, OpenaiNode, OpenaiPython};

/// A place in the table: one upstream, reached by one daemon.
pub struct Cell {
    pub upstream: &'static str,
    /// `mcpd`, `via-mcplocal` where the primary answers, or `mcplocal` where the agent fell back.
    pub daemon: &'static str,
    /// What the script gets: `url`, `key`, `llm`, `scenarios` and what single scenarios need.
    pub input: Value,
}

impl Client {
    pub const fn is_openai(self) -> bool {
        matches!(self, OpenaiPython | OpenaiNode)
    }

    const fn is_python(self) -> bool {
        matches!(self, OpenaiPython | AnthropicPython)
    }

    fn folder(self) -> PathBuf {
        let name = if self.is_openai() { "openai" } else { "anthropic" };
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/official").join(name)
    }

    /// The client's name, with the version that is installed.
    fn name(self) -> String {
        let company = if self.is_openai() { "openai" } else { "anthropic" };
        if self.is_python() {
            let packages = fs::read_to_string(self.folder().join("requirements.txt")).unwrap();
            let version = packages.lines().find_map(|line| line.strip_prefix(&format!("{company}==")));
            return format!("{company} (Python) {}", version.unwrap());
        }
        let package: Value =
            serde_json::from_str(&fs::read_to_string(self.folder().join("package.json")).unwrap()).unwrap();
        let name = if self.is_openai() { "openai" } else { "@anthropic-ai/sdk" };
        format!("{company} (Node) {}", package["dependencies"][name].as_str().unwrap())
    }

    /// The program with its script, and the packages of the lock file.
    fn command(self) -> Command {
        let folder = self.folder();
        let mut command = if self.is_python() {
            let mut command = Command::new("python3");
            // Compiled files beside the scripts would be a change of the sources.
            command.arg("-B").arg(folder.join("client.py"));
            command.env("PYTHONPATH", python::packages(&folder.join("requirements.txt")));
            command
        } else {
            let mut command = Command::new("node");
            command.arg(folder.join("client.cjs")).env("NODE_PATH", node::packages(&folder));
            command
        };
        for name in
            ["ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_CUSTOM_HEADERS", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"]
        {
            command.env_remove(name);
        }
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        command
    }

    /// Runs all scenarios of the cells, records them in the table, and returns those that failed. `judge` gets the cell, the
    /// scenario, and its result or the words of an error that the client raised.
    pub async fn run(
        self,
        cells: Vec<Cell>,
        judge: impl Fn(&Cell, &str, Result<&Value, &str>) -> Outcome,
    ) -> Vec<String> {
        let command = tokio::task::spawn_blocking(move || self.command());
        let inputs: Vec<&Value> = cells.iter().map(|cell| &cell.input).collect();
        let mut child = command
            .await
            .unwrap()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(json!(inputs).to_string().as_bytes()).await.unwrap();
        drop(stdin);
        let output = child.wait_with_output().await.unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{self:?}: {errors}");

        let lines: Vec<Value> = String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let mut failed = Vec::new();
        for (number, cell) in cells.iter().enumerate() {
            let mut table = Cells::new(&self.name(), cell.daemon, cell.upstream);
            let scenarios = cell.input["scenarios"].as_array().unwrap();
            for scenario in scenarios {
                let of = |line: &&Value| line["cell"] == number && line["scenario"] == *scenario;
                let line = lines.iter().find(of).expect("a line for each scenario");
                let scenario = scenario.as_str().unwrap();
                let result = match line.get("result") {
                    Some(result) => Ok(result),
                    None => Err(line["error"].as_str().unwrap()),
                };
                table.add(scenario, judge(cell, scenario, result));
            }
            failed.extend(table.write());
        }
        failed
    }
}
