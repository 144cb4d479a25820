//! A user at a shell: a home directory, variables, and the output of each command.

use std::{
    fs::File,
    io::Read as _,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal, program};
use nix::pty::{OpenptyResult, Winsize, openpty};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command, task::JoinHandle};

/// A user of the command line, with a home directory of its own.
pub struct Shell {
    pub home: TempDir,
    /// Variables of the environment; a later one overrides an earlier one of the same name.
    pub env: Vec<(&'static str, String)>,
}

/// The result of a command.
pub struct CommandOutput {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl CommandOutput {
    /// The output; fails unless the command succeeded.
    pub fn succeeded(self) -> String {
        assert_eq!(self.code, 0, "{}", self.stderr);
        self.stdout
    }

    /// The errors; fails unless the command ended with this code.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        self.stderr
    }
}

/// A shell of the user who runs the agent.
pub fn beside(agent: &Mcplocal) -> Shell {
    let mut shell = Shell::new();
    shell.env.push(("MCPLOCAL_ADDRESS", agent.url().to_owned()));
    shell.env.extend(agent.homes().map(|(name, path)| (name, path.display().to_string())));
    shell
}

/// A terminal and the end of it that a program writes to; of an unknown size where it has no columns.
fn terminal(columns: u16) -> (File, OwnedFd) {
    let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let OpenptyResult { master, slave } = openpty((columns > 0).then_some(&size), None).unwrap();
    (File::from(master), slave)
}

/// What a terminal shows until its other end is closed.
fn shown_on(mut terminal: File) -> JoinHandle<String> {
    tokio::task::spawn_blocking(move || {
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = terminal.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..read]);
        }
        String::from_utf8(shown).unwrap().replace("\r\n", "\n")
    })
}

impl Shell {
    pub fn new() -> Self {
        // An address without an agent, where the test does not start one.
        Self {
            home: tempfile::tempdir().unwrap(),
            env: vec![("MCPLOCAL_ADDRESS", "http://127.0.0.1:1".to_owned())],
        }
    }

    pub async fn signed_in(mcpd: &Mcpd) -> Self {
        let shell = Self::new();
        shell
            .run_with(&["login", mcpd.url(), "--token-stdin", "--context", "c"], &mcpd.admin())
            .await
            .succeeded();
        shell
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub async fn run(&self, args: &[&str]) -> CommandOutput {
        self.run_with(args, "").await
    }

    pub async fn run_with(&self, args: &[&str], input: &str) -> CommandOutput {
        let mut child = self.command(args).spawn().unwrap();
        // A command that does not read its input may have ended.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        let output = child.wait_with_output().await.unwrap();
        CommandOutput {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs a command on a terminal; returns its exit code and the text that the terminal shows.
    pub async fn on_a_terminal(&self, args: &[&str]) -> (i32, String) {
        let (terminal, other_end) = terminal(0);
        let mut command = self.command(args);
        command.stdin(Stdio::null());
        command.stdout(Stdio::from(other_end.try_clone().unwrap())).stderr(Stdio::from(other_end));
        let mut child = command.spawn().unwrap();
        // The command holds the terminal's other end open too.
        drop(command);
        let shown = shown_on(terminal);
        let code = child.wait().await.unwrap().code().unwrap();
        (code, shown.await.unwrap())
    }

    /// Runs a command whose standard output is a terminal that is so wide.
    pub async fn run_on(&self, columns: u16, args: &[&str]) -> CommandOutput {
        let (terminal, other_end) = terminal(columns);
        let mut command = self.command(args);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::from(other_end))
            .env("NO_COLOR", "1")
            .env_remove("COLUMNS");
        let child = command.spawn().unwrap();
        drop(command);
        let shown = shown_on(terminal);
        let output = child.wait_with_output().await.unwrap();
        CommandOutput {
            code: output.status.code().unwrap(),
            stdout: shown.await.unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A command that is not yet started; its streams are pipes.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("mcpctl"));
        command
            .args(args)
            .current_dir(self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // Variables of the user who runs the tests do not apply.
        for name in ["MCPCTL_SERVER", "MCPCTL_TOKEN", "MCPCTL_CONTEXT", "VISUAL", "EDITOR"] {
            if !self.env.iter().any(|(set, _)| *set == name) {
                command.env_remove(name);
            }
        }
        command
    }

    /// The file of contexts.
    pub fn contexts(&self) -> PathBuf {
        self.home.path().join("config/mcpctl/config.yaml")
    }

    /// A path below the home.
    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.home.path()).join(name)
    }
}
