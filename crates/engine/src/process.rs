//! An engine's process as the agent holds it: by its guardian. Letting go of it ends it.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::watch,
};

use crate::{error::EngineError, group, guardian, log::EngineLog, record::RecordFile, spec::Launch};

/// How long the guardian may take to say that the engine runs.
const SPAWN: Duration = Duration::from_secs(10);
/// How long the guardian may take to end the engine; its own ladder is shorter.
const STOP: Duration = Duration::from_secs(20);

/// A running engine.
pub(crate) struct Process {
    pub(crate) pid: u32,
    exited: watch::Receiver<Option<String>>,
    guardian: Child,
    stdin: Option<ChildStdin>,
    record: Option<RecordFile>,
}

impl Process {
    /// Starts a program under a guardian.
    pub(crate) async fn spawn(
        name: &str,
        launch: &Launch,
        guardian: &Path,
        state_dir: &Path,
        log: &Arc<EngineLog>,
    ) -> Result<Self, EngineError> {
        let failed = |reason: String| EngineError::Spawn { name: name.to_owned(), reason };
        let mut child = Command::new(guardian)
            .arg("engine-guardian")
            .arg(&launch.program)
            .args(&launch.args)
            .envs(launch.env.iter().map(|(key, value)| (key, value)))
            // Out of the terminal's foreground group: Ctrl-C is for the agent, which decides what to end.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(error.to_string()))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(failed("its pipes are missing".to_owned()));
        };
        let log = Arc::clone(log);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                log.line(String::from_utf8_lossy(&line).trim_end());
            }
        });
        let mut reports = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(SPAWN, reports.next_line()).await;
        let first = first.ok().and_then(Result::ok).flatten();
        let pid = match first.as_deref().and_then(|line| line.split_once(' ')) {
            Some(("started", pid)) => {
                pid.parse().map_err(|_| failed("the guardian is not ours".to_owned()))?
            }
            Some(("failed", reason)) => return Err(failed(reason.to_owned())),
            _ => return Err(failed("the guardian did not answer".to_owned())),
        };
        let record = RecordFile::write(state_dir, name, pid)
            .inspect_err(|error| tracing::warn!(%error, "the engine's record cannot be written"))
            .ok();
        let (told, exited) = watch::channel(None);
        tokio::spawn(async move {
            let how = loop {
                match reports.next_line().await {
                    Ok(Some(line)) => {
                        if let Some(how) = line.strip_prefix("exited ") {
                            break how.to_owned();
                        }
                    }
                    // The guardian itself is gone: nobody watches the engine any more, so it goes too.
                    Ok(None) | Err(_) => {
                        group::signal(pid, Signal::SIGKILL);
                        break "its guardian was killed".to_owned();
                    }
                }
            };
            told.send_replace(Some(how));
        });
        Ok(Self { pid, exited, guardian: child, stdin: Some(stdin), record })
    }

    /// Waits until the engine has ended, and says how. Does not borrow the process.
    pub(crate) fn ended(&self) -> impl Future<Output = String> + Send + use<> {
        let mut exited = self.exited.clone();
        async move {
            let how = exited.wait_for(Option::is_some).await;
            how.ok().and_then(|how| how.clone()).unwrap_or_else(|| "in an unknown way".to_owned())
        }
    }

    /// Ends the engine and everything it started, and waits until nothing of it is left.
    pub(crate) async fn stop(mut self) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{}\n", guardian::STOP).as_bytes()).await;
            let _ = stdin.flush().await;
        }
        if tokio::time::timeout(STOP, self.guardian.wait()).await.is_err() {
            group::signal(self.pid, Signal::SIGKILL);
            let _ = self.guardian.start_kill();
            let _ = self.guardian.wait().await;
        }
        if let Some(record) = self.record.take() {
            record.remove();
        }
    }
}

impl Drop for Process {
    /// The closing pipe tells the guardian. The record stays: the next agent looks whether anything did.
    fn drop(&mut self) {
        drop(self.stdin.take());
    }
}
