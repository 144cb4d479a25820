//! A user at a shell: a home directory, variables, and the output of each command.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal, program};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

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
