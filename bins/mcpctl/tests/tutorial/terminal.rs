//! A terminal of a new user: one bash, an empty home, and free ports in place of those that a document names. `cargo` and `pip` are
//! replaced by scripts that use what the tests have built and fetched already.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use mcpctl_testkit::{daemons::program, python};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

/// Where llama-server and the model are.
const FETCHED: [&str; 2] = ["MCPCTL_LLAMA_SERVER", "MCPCTL_GGUF"];
/// The programs are built, and the model is fetched.
const CARGO: &str = r#"#!/bin/sh
set -eu
case "$*" in
"build --bins") ;;
"xtask model")
    printf 'providers:\n  - name: desk\n    type: llama-server-managed\n    command: %s\n    model: %s\n    failoverFor: gpt\n' \
        "$MCPCTL_LLAMA_SERVER" "$MCPCTL_GGUF" ;;
*) exit 1 ;;
esac
"#;
/// Makes an environment whose packages are those that the tests of official clients have.
const PYTHON: &str = r#"#!/bin/sh
set -eu
[ "$1 $2" = "-m venv" ] || exit 1
mkdir -p "$3/bin"
printf '#!/bin/sh\n[ "$1" = install ]\n' > "$3/bin/pip"
printf '#!/bin/sh\nPYTHONPATH=%s exec %s "$@"\n' "$PACKAGES" "$PYTHON" > "$3/bin/python"
chmod +x "$3/bin/pip" "$3/bin/python"
"#;
/// What bash prints after a block.
const END: &str = "--- end of the block ---";
/// Far longer than any block takes.
const PATIENCE: Duration = Duration::from_secs(180);
/// What stands for any text in what a document prints.
const ANYTHING: char = '…';

pub struct Terminal {
    root: TempDir,
    replacements: Vec<(&'static str, String)>,
    shell: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    pub async fn open() -> Self {
        for name in FETCHED {
            assert!(
                std::env::var_os(name).is_some(),
                "{name} is not set: `cargo xtask test` fetches what it names"
            );
        }
        let root = tempfile::Builder::new().prefix("tutorial-").tempdir().unwrap();
        let [mcpd, agent, provider] = [(); 3].map(|()| free_port());
        let bin = root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for (name, text) in [("cargo", CARGO), ("python3", PYTHON)] {
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o700)).unwrap();
        }
        let home = root.path().join("home");
        fs::create_dir(&home).unwrap();
        let requirements = "../mcplocal/tests/official/openai/requirements.txt";
        let packages = python::packages(&Path::new(env!("CARGO_MANIFEST_DIR")).join(requirements));
        let present = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&present)));
        let mut command = Command::new("bash");
        command.args(["--noprofile", "--norc"]).current_dir(&home).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        for (name, _) in std::env::vars() {
            let is_fetched = FETCHED.contains(&name.as_str());
            let prefixes = ["XDG_", "MCP", "OTEL_", "OPENAI_", "ANTHROPIC_"];
            if prefixes.iter().any(|prefix| name.starts_with(prefix)) && !is_fetched {
                command.env_remove(name);
            }
        }
        command.env("HOME", &home).env("PATH", path.unwrap());
        command.env("PACKAGES", packages).env("PYTHON", python_program());
        command.env("MCPD_LISTEN", format!("127.0.0.1:{mcpd}"));
        let mut shell = command.spawn().unwrap();
        let input = shell.stdin.take().unwrap();
        let output = BufReader::new(shell.stdout.take().unwrap()).lines();
        let programs = program("mcpctl").parent().unwrap().display().to_string();
        let replacements = vec![
            ("$PWD/target/debug", programs),
            // The agent has an address of its own here.
            (
                "\nmcpctl local up\n",
                format!(
                    "\necho 'listen: 127.0.0.1:{agent}' >> \"$XDG_CONFIG_HOME/mcpctl/mcplocal.yaml\"\nmcpctl local up\n"
                ),
            ),
            ("127.0.0.1:3100", format!("127.0.0.1:{mcpd}")),
            ("127.0.0.1:3200", format!("127.0.0.1:{agent}")),
            ("127.0.0.1:8001", format!("127.0.0.1:{provider}")),
            ("--port 8001", format!("--port {provider}")),
        ];
        let mut terminal = Self { root, replacements, shell, input, output };
        terminal.run("the shell", "set -eo pipefail\nexec 2>&1\n").await;
        terminal
    }

    /// Runs a block, which has to succeed, and returns what it printed.
    pub async fn run(&mut self, place: &str, block: &str) -> String {
        let file = self.root.path().join("block.sh");
        fs::write(&file, self.replaced(block)).unwrap();
        let line = format!(". {} < /dev/null\necho '{END}'\n", file.display());
        self.input.write_all(line.as_bytes()).await.unwrap();
        let mut printed = String::new();
        let read = async {
            loop {
                match self.output.next_line().await.unwrap() {
                    Some(line) if line == END => break true,
                    Some(line) => {
                        printed.push_str(&line);
                        printed.push('\n');
                    }
                    None => break false,
                }
            }
        };
        let ended = tokio::time::timeout(PATIENCE, read).await;
        assert_eq!(
            ended,
            Ok(true),
            "{place}: a command failed or did not end\n{block}\n{printed}{}",
            self.logs()
        );
        printed
    }

    /// Each line that the document prints has to be one of those that the commands printed, in this order.
    pub fn check_printed(&self, place: &str, expected: &str, printed: &str) {
        let mut lines = printed.lines().map(words);
        for line in self.replaced(expected).lines().map(words) {
            let found = lines.any(|printed| matches(&line, &printed));
            assert!(found, "{place}: no line `{line}` in what was printed:\n{printed}{}", self.logs());
        }
    }

    /// Ends the shell; nothing that the document started may be left.
    pub async fn close(mut self) {
        let left = self.run("the shell", "jobs -r\n").await;
        assert_eq!(left, "", "the document leaves these running");
    }

    fn replaced(&self, text: &str) -> String {
        self.replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    fn home(&self, path: &str) -> PathBuf {
        self.root.path().join("home").join(path)
    }

    fn logs(&self) -> String {
        let logs = ["mcpctl-tutorial/mcpd.log", "mcpctl-tutorial/state/mcpctl/mcplocal/mcplocal.log"];
        logs.iter().filter_map(|log| fs::read_to_string(self.home(log)).ok()).collect()
    }
}

impl Drop for Terminal {
    /// Ends what a failed tutorial leaves: jobs of the shell, and the agent, which is none.
    fn drop(&mut self) {
        let agent = fs::read_to_string(self.home("mcpctl-tutorial/state/mcpctl/mcplocal/agent.json")).ok();
        let agent = agent.and_then(|text| serde_json::from_str::<Value>(&text).ok()?["pid"].as_i64());
        if let Some(agent) = agent.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(agent), Signal::SIGTERM);
        }
        if let Some(group) = self.shell.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = killpg(Pid::from_raw(group), Signal::SIGTERM);
        }
    }
}

/// Columns of tables are as wide as what is in them, so blanks count as one.
fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is the expected one, in which each `…` stands for any text.
fn matches(expected: &str, printed: &str) -> bool {
    let mut parts = expected.split(ANYTHING).map(str::trim);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    match last {
        None => rest.is_empty(),
        Some(last) => last.is_empty() || printed.ends_with(last),
    }
}

/// The interpreter behind `python3`, which a version manager may replace by what `PATH` has.
fn python_program() -> String {
    let output =
        std::process::Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    String::from_utf8(output.expect("python3").stdout).unwrap().trim().to_owned()
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port()
}
