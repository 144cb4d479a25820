//! A person at a shell: a home of their own, and what each command says.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal, program};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, process::Command};

/// A user of the command line, with a home of its own.
pub struct Shell {
    pub home: TempDir,
    pub more: Vec<(&'static str, String)>,
}

/// What a command said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn good(self) -> String {
        assert_eq!(self.code, 0, "{}", self.err);
        self.out
    }

    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        self.err
    }
}

/// The same user for `mcpctl` as for the agent.
pub fn beside(agent: &Mcplocal) -> Shell {
    let mut shell = Shell::new();
    shell.more.push(("MCPLOCAL_ADDRESS", agent.url().to_owned()));
    shell.more.extend(agent.homes().map(|(name, path)| (name, path.display().to_string())));
    shell
}

impl Shell {
    pub fn new() -> Self {
        // No agent where this test does not start one.
        Self {
            home: tempfile::tempdir().unwrap(),
            more: vec![("MCPLOCAL_ADDRESS", "http://127.0.0.1:1".to_owned())],
        }
    }

    pub async fn signed_in(mcpd: &Mcpd) -> Self {
        let shell = Self::new();
        shell.run_with(&["login", mcpd.url(), "--token-stdin", "--context", "c"], &mcpd.admin()).await.good();
        shell
    }

    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    pub async fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, "").await
    }

    pub async fn run_with(&self, args: &[&str], input: &str) -> Said {
        let mut child = self.command(args).spawn().unwrap();
        // A command that does not read its input may be gone already.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes()).await;
        let output = child.wait_with_output().await.unwrap();
        Said {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A command that is not started yet; its streams are pipes.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("mcpctl"));
        command
            .args(args)
            .current_dir(self.home.path())
            .env("XDG_CONFIG_HOME", self.home.path().join("config"))
            .env("XDG_STATE_HOME", self.home.path().join("state"))
            .envs(self.more.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // What the person who runs the tests has set is not this person's.
        for name in ["MCPCTL_SERVER", "MCPCTL_TOKEN", "MCPCTL_CONTEXT", "VISUAL", "EDITOR"] {
            if !self.more.iter().any(|(more, _)| *more == name) {
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
