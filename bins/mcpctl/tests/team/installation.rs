//! The machines of a team in one directory: a server on which root types, an administrator, and a workstation. What a document's commands
//! name there is replaced by what this machine has: paths, names, ports, users, and the service manager.

use std::{
    collections::VecDeque,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
};

use mcpctl_testkit::{
    daemons::program,
    model_server::{ModelServer, Reply},
    postgres::Postgres,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use xtask::document::{self, Block};

/// Runs a command as the present user in place of another one.
const SUDO: &str = "#!/bin/sh\nshift 2\nexec \"$@\"\n";
/// Runs a command on this machine in place of another one.
const SSH: &str = "#!/bin/sh\nshift\nexec sh -c \"$*\"\n";
/// Starts and stops mcpd as its unit does, and waits until it is ready.
const SYSTEMCTL: &str = r#"#!/bin/sh
set -eu
pid=$ROOT/mcpd.pid log=$ROOT/mcpd.log
start() {
    : > "$log"
    : > "$pid"
    # Its parent waits for it, so that the file is there for as long as the process.
    (mcpd serve --config "$ROOT/etc/mcpd/mcpd.yaml" > "$log" 2>&1 < /dev/null & echo $! > "$pid"; wait $! || :; rm "$pid") > /dev/null 2>&1 &
    until grep -q 'mcpd is ready' "$log"; do
        [ -e "$pid" ] || { cat "$log" >&2; exit 1; }
        sleep 0.02
    done
}
stop() {
    kill "$(cat "$pid")"
    while [ -e "$pid" ]; do sleep 0.02; done
}
case "$1" in
start | enable) start ;;
stop) stop ;;
*) exit 1 ;;
esac
"#;
/// What the requests of the test cost: a person's budget of a day is used up by one [`LONG_ANSWER`] of `gpt-5.2`.
const PRICES: &str = r#"[
    {"models": ["gpt-5-mini"], "hosts": ["127.0.0.1"], "price": {"input": 1, "output": 1}, "date": "2026-11-27", "source": "https://example.com"},
    {"models": ["gpt-5.2"], "hosts": ["127.0.0.1"], "price": {"input": 1, "output": 10000}, "date": "2026-11-27", "source": "https://example.com"}
]"#;

/// Words that `gpt-5.2` adds to its answer.
const LONG_ANSWER: usize = 600;

/// Who types a command, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Server,
    Administrator,
    Workstation,
}

/// The machines, and the servers of models behind them.
pub struct Installation {
    root: TempDir,
    pub provider: ModelServer,
    pub desk: ModelServer,
    postgres: Postgres,
    replacements: Vec<(&'static str, String)>,
    /// Blocks of each document that were not run yet.
    pending: Vec<(&'static str, VecDeque<Block>)>,
}

impl Installation {
    /// Machines without anything but the programs, and the documents that will be followed.
    pub async fn new(documents: &[&'static str]) -> Self {
        let provider = ModelServer::start().await;
        provider.answer_with(|request| {
            let is_dear = request.json()["model"] == "gpt-5.2";
            let more = " more".repeat(if is_dear { LONG_ANSWER } else { 0 });
            Reply::text(&format!("from the primary{more}"))
        });
        provider.require_key("sk-of-the-team");
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        desk.set_models(&["qwen3"]);
        let postgres = Postgres::start();
        let root = tempfile::Builder::new().prefix("team-").tempdir().unwrap();
        let mut installation =
            Self { root, provider, desk, postgres, replacements: Vec::new(), pending: Vec::new() };
        for dir in [
            "bin",
            "etc/mcpd",
            "var/lib/mcpd",
            "var/backups",
            "safe",
            "server",
            "administrator",
            "workstation",
        ] {
            fs::create_dir_all(installation.path(dir)).unwrap();
            fs::set_permissions(installation.path(dir), fs::Permissions::from_mode(0o700)).unwrap();
        }
        for (name, text) in [("sudo", SUDO), ("ssh", SSH), ("systemctl", SYSTEMCTL)] {
            installation.write(&format!("bin/{name}"), text, 0o700);
        }
        installation.write("etc/mcpd/prices.json", PRICES, 0o600);
        installation.replacements = installation.replacements();
        installation.pending = documents
            .iter()
            .map(|document| {
                let blocks = document::blocks_of(document).into_iter();
                (*document, blocks.filter(|block| block.language == "sh").collect())
            })
            .collect();
        installation
    }

    fn replacements(&self) -> Vec<(&'static str, String)> {
        let (port, drill) = (free_port(), free_port());
        let path = |path: &str| self.path(path).display().to_string();
        let (_, database) = self
            .postgres
            .url()
            .split_once('@')
            .map(|(user, rest)| (user.to_owned(), rest.to_owned()))
            .unwrap();
        vec![
            ("/etc/mcpd", path("etc/mcpd")),
            ("/var/lib/mcpd", path("var/lib/mcpd")),
            ("/var/backups", path("var/backups")),
            ("/safe/place", path("safe")),
            // There is one user.
            (" -o mcpd -g mcpd", String::new()),
            ("createuser --pwprompt", "createuser".to_owned()),
            ("127.0.0.1:5432/mcpd", database.replace("/test", "/mcpd")),
            ("https://mcpd.example.com", format!("https://localhost:{port}")),
            ("mcpd.example.com", "localhost".to_owned()),
            ("0.0.0.0:443", format!("127.0.0.1:{port}")),
            ("127.0.0.1:3199", format!("127.0.0.1:{drill}")),
            // Providers at a loopback address, which have no prices of their own.
            (
                "\ntls: {",
                format!(
                    "\nupstreamAddresses: {{loopback: true}}\nprices: {}\ntls: {{",
                    path("etc/mcpd/prices.json")
                ),
            ),
            ("https://api.openai.com/v1", self.provider.base_url()),
            ("api.openai.com", self.provider.address().to_string()),
            ("http://127.0.0.1:11434/v1", self.desk.base_url()),
            // Other tests have agents too.
            ("\nca: ~/", "\nlisten: 127.0.0.1:0\nca: ~/".to_owned()),
            ("2026-11-27.backup", path("server/nightly.backup")),
        ]
    }

    /// The URL of mcpd.
    pub fn url(&self) -> &str {
        &self.replacements.iter().find(|(from, _)| *from == "https://mcpd.example.com").unwrap().1
    }

    /// A path on one of the machines.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    pub fn write(&self, path: &str, text: &str, mode: u32) {
        fs::write(self.path(path), text).unwrap();
        fs::set_permissions(self.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    pub fn copy(&self, from: &str, to: &str) {
        fs::copy(self.path(from), self.path(to)).unwrap();
    }

    /// Runs the next command block of a document, which has to be below this heading and has to succeed; returns what it printed.
    pub async fn follow(&mut self, document: &str, heading: &str, place: Place) -> String {
        let (_, pending) = self.pending.iter_mut().find(|(name, _)| *name == document).unwrap();
        let at = pending.iter().position(|block| block.heading == heading);
        let block = pending.remove(at.unwrap_or_else(|| panic!("no block below `{heading}`"))).unwrap();
        self.run(place, &block.text).await
    }

    /// Command blocks that were not run, each with its document and its heading.
    pub fn left(&self) -> Vec<(&'static str, &Block)> {
        let all = self.pending.iter();
        all.flat_map(|(document, blocks)| blocks.iter().map(move |block| (*document, block))).collect()
    }

    /// Runs a script of a document unchanged; it has to succeed.
    pub async fn run(&self, place: Place, script: &str) -> String {
        let (success, output) = self.attempt(place, script).await;
        assert!(
            success,
            "{script}\n{output}\n{}",
            fs::read_to_string(self.path("mcpd.log")).unwrap_or_default()
        );
        output
    }

    /// Runs a script, and returns whether it succeeded and what it printed.
    pub async fn attempt(&self, place: Place, script: &str) -> (bool, String) {
        let mut script = script.to_owned();
        for (from, to) in &self.replacements {
            script = script.replace(from, to);
        }
        let home = self.path(match place {
            Place::Server => "server",
            Place::Administrator => "administrator",
            Place::Workstation => "workstation",
        });
        let programs = program("mcpd");
        let dirs = [&self.path("bin"), programs.parent().unwrap(), self.postgres.binaries()];
        let present = std::env::var_os("PATH").unwrap_or_default();
        let path =
            std::env::join_paths(dirs.into_iter().map(Path::to_owned).chain(std::env::split_paths(&present)));
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", &format!("{script}\n")])
            .current_dir(&home)
            .stdin(Stdio::null());
        for (name, _) in std::env::vars() {
            if ["XDG_", "MCP", "PG", "OTEL_"].iter().any(|prefix| name.starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.env("ROOT", self.root.path()).env("HOME", &home).env("PATH", path.unwrap());
        command.envs(self.postgres.client_environment());
        let output = command.output().await.unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }

    /// What a command of the administrator's prints, as JSON.
    pub async fn json(&self, command: &str) -> Value {
        let output = self.run(Place::Administrator, &format!("{command} 2> /dev/null")).await;
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{command}: {error}: {output}"))
    }
}

impl Drop for Installation {
    /// Ends mcpd and the agent, which no service manager does here.
    fn drop(&mut self) {
        let mcpd = fs::read_to_string(self.path("mcpd.pid")).ok();
        let agent = fs::read_to_string(self.path("workstation/.local/state/mcpctl/mcplocal/agent.json")).ok();
        let agent = agent.and_then(|text| serde_json::from_str::<Value>(&text).ok()?["pid"].as_i64());
        let pids =
            [mcpd.and_then(|pid| pid.trim().parse().ok()), agent.and_then(|pid| i32::try_from(pid).ok())];
        for pid in pids.into_iter().flatten() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}
