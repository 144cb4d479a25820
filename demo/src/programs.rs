//! Child processes of the demo: started on free ports, watched by their logs, ended when the demo ends.

use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// How long a program may take to be ready.
const READY: Duration = Duration::from_secs(60);
/// How long it may take to end by itself.
const END: Duration = Duration::from_secs(45);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running program.
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// A program of this workspace.
pub(crate) fn ours(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    Ok(here.parent().context("the folder of the programs")?.join(name))
}

impl Program {
    /// Starts a command with its output in a log file, in a process group of its own, so that Ctrl-C is the demo's.
    pub(crate) fn start(name: &'static str, command: &mut Command, dir: &Path) -> Result<Self> {
        use std::os::unix::process::CommandExt as _;
        let log = dir.join(format!("{name}.log"));
        let file = File::create(&log)?;
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { name, child, log })
    }

    /// Waits for a line of the log that begins, after the time and so on, with `text`; answers the rest of it.
    pub(crate) async fn wait_for_line(&mut self, text: &str) -> Result<String> {
        let begun = Instant::now();
        loop {
            let log = std::fs::read_to_string(&self.log)?;
            if let Some((_, rest)) = log.lines().find_map(|line| line.split_once(text)) {
                return Ok(rest.to_owned());
            }
            self.check_alive(&log)?;
            if begun.elapsed() > READY {
                bail!("{} did not become ready; its log is {}", self.name, self.log.display());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Waits until something answers there.
    pub(crate) async fn answers(&mut self, url: &str) -> Result<()> {
        let address: url::Url = url.parse()?;
        let client = mcpctl_client::Client::new(address, None, &mcpctl_client::ClientOptions::default())?;
        let begun = Instant::now();
        while client.models().await.is_err() {
            self.check_alive("")?;
            if begun.elapsed() > READY {
                bail!("{} did not become ready; its log is {}", self.name, self.log.display());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn check_alive(&mut self, log: &str) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                let last = log.lines().last().unwrap_or_default();
                bail!("{} ended by itself ({status}): {last}", self.name)
            }
        }
    }

    pub(crate) fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }

    /// SIGKILL, as a crash.
    pub(crate) fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.signal(Signal::SIGTERM);
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            if begun.elapsed() > END {
                bail!("{} did not end within {} s", self.name, END.as_secs());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
}

impl Drop for Program {
    /// Whatever happened, nothing is left running; asked first, so that the agent can end its engine.
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        self.signal(Signal::SIGTERM);
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < Duration::from_secs(5) {
            std::thread::park_timeout(POLL_INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A loopback port that is free now.
pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
