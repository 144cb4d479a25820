//! A supervised program as the agent holds it, through its guardian. Dropping it ends the program.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::{mpsc, oneshot, watch},
};

use crate::{
    Residue, guardian,
    line_splitter::LineSplitter,
    random,
    record::{Record, RecordFile},
};

/// How long the guardian may take to report that the program runs.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the guardian may take to end the program; it sends SIGKILL after at most 15 s.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
/// How long killed processes may take to disappear.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A program with its arguments and its whole environment: it inherits nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Names and values of its environment; of a repeated name the last one counts.
    pub env: Vec<(String, OsString)>,
}

/// Why a program could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no mark for it.
    #[error("{0}")]
    Mark(getrandom::Error),
    /// The guardian could not be started.
    #[error("its guardian `{}`: {source}", guardian.display())]
    Guardian {
        /// The guardian's executable.
        guardian: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The guardian has no pipes.
    #[error("its pipes are missing")]
    NoPipes,
    /// What was run as a guardian is something else.
    #[error("the guardian is not ours")]
    NotAGuardian,
    /// The guardian reported nothing in time.
    #[error("the guardian did not answer")]
    NoReport,
    /// The guardian could not start the program.
    #[error("`{}`: {reason}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A running program.
pub struct SupervisedChild<R: Residue> {
    pid: u32,
    exited: watch::Receiver<Option<String>>,
    flush: mpsc::UnboundedSender<oneshot::Sender<()>>,
    guardian: Child,
    stdin: Option<ChildStdin>,
    record: Record,
    file: Option<RecordFile>,
    /// What it held when the agent killed it.
    residue: Arc<Mutex<R>>,
}

impl<R: Residue> SupervisedChild<R> {
    /// Starts a program under a guardian, records it as `name` in the directory `records`, and calls `on_line` with each
    /// line that it writes. `guardian` is an executable that calls [`guardian::run`] when [`guardian::ARGUMENT`] is its
    /// first argument.
    ///
    /// # Errors
    /// When the program does not run after 10 s at most.
    pub async fn spawn(
        name: &str,
        program: &ChildCommand,
        guardian: &Path,
        records: &Path,
        on_line: impl FnMut(&str) + Send + 'static,
    ) -> Result<Self, SpawnError> {
        let mark = random::hex().map_err(SpawnError::Mark)?;
        let mut child = Command::new(guardian)
            .env_clear()
            .envs(program.env.iter().map(|(key, value)| (key, value)))
            .args([guardian::ARGUMENT, &mark])
            .arg(&program.program)
            .args(&program.args)
            // Out of the terminal's foreground group: Ctrl-C is for the agent, which decides what to end.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| SpawnError::Guardian { guardian: guardian.to_owned(), source })?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(SpawnError::NoPipes);
        };
        let (flush, flushes) = mpsc::unbounded_channel();
        tokio::spawn(forward_output(stderr, on_line, flushes));
        let mut reports = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(SPAWN_TIMEOUT, reports.next_line()).await;
        let first = first.ok().and_then(Result::ok).flatten();
        let pid = match first.as_deref().and_then(|line| line.split_once(' ')) {
            Some(("started", pid)) => pid.parse().map_err(|_| SpawnError::NotAGuardian)?,
            Some(("failed", reason)) => {
                let (program, reason) = (program.program.clone(), reason.to_owned());
                return Err(SpawnError::Program { program, reason });
            }
            _ => return Err(SpawnError::NoReport),
        };
        let record = Record::new(name, pid, &mark);
        let file = RecordFile::write(records, &record)
            .inspect_err(
                |error| tracing::warn!(name, %error, "the record of a started program cannot be written"),
            )
            .ok();
        let (exit, exited) = watch::channel(None);
        let residue = Arc::default();
        tokio::spawn(wait_for_exit(reports, record.clone(), Arc::clone(&residue), exit));
        Ok(Self { pid, exited, flush, guardian: child, stdin: Some(stdin), record, file, residue })
    }

    /// The first process of the program, which leads its group.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the program has ended and its last line was handed on, and returns how it ended. Does not borrow the
    /// program.
    pub fn ended(&self) -> impl Future<Output = String> + Send + use<R> {
        let (mut exited, flush) = (self.exited.clone(), self.flush.clone());
        async move {
            let how = exited.wait_for(Option::is_some).await.ok().and_then(|how| how.clone());
            let (done, flushed) = oneshot::channel();
            if flush.send(done).is_ok() {
                let _ = flushed.await;
            }
            how.unwrap_or_else(|| "in an unknown way".to_owned())
        }
    }

    /// Ends the program and everything it started, and waits until no process of it is left, for at most 25 s.
    pub async fn stop(mut self) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{}\n", guardian::STOP).as_bytes()).await;
            let _ = stdin.flush().await;
        }
        // The guardian exits when no process of the program is left.
        if tokio::time::timeout(STOP_TIMEOUT, self.guardian.wait()).await.is_err() {
            let _ = self.guardian.start_kill();
            let _ = self.guardian.wait().await;
        }
        // A guardian that was killed has ended nothing.
        let gone = async {
            while self.record.is_alive() {
                self.record.signal(Signal::SIGKILL, &mut *lock(&self.residue));
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        match tokio::time::timeout(KILL_TIMEOUT, gone).await {
            Ok(()) => {
                std::mem::take(&mut *lock(&self.residue)).remove();
                if let Some(file) = self.file.take() {
                    file.remove();
                }
            }
            // The record stays for the next sweep.
            Err(_) => tracing::error!(
                name = self.record.name,
                pid = self.pid,
                "a program was killed and is still running"
            ),
        }
    }
}

fn lock<R>(residue: &Mutex<R>) -> MutexGuard<'_, R> {
    residue.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Residue> Drop for SupervisedChild<R> {
    /// Closes the pipe, so that the guardian ends the program. The record stays: the next sweep checks that it did.
    fn drop(&mut self) {
        drop(self.stdin.take());
    }
}

/// Hands on each line that the program writes. A flush is answered when everything that had been written was handed on:
/// reading comes first, so a flush is served only when there is nothing to read.
async fn forward_output(
    mut output: ChildStderr,
    mut on_line: impl FnMut(&str),
    mut flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let (mut lines, mut buffer) = (LineSplitter::default(), vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            biased;
            read = output.read(&mut buffer) => match read {
                Ok(length @ 1..) => lines.push(buffer.get(..length).unwrap_or_default(), &mut on_line),
                _ => break,
            },
            Some(done) = flushes.recv() => {
                lines.end(&mut on_line);
                let _ = done.send(());
            }
        }
    }
    lines.end(&mut on_line);
}

/// Waits for the guardian's report of how the program ended.
async fn wait_for_exit<R: Residue>(
    mut reports: tokio::io::Lines<BufReader<ChildStdout>>,
    record: Record,
    residue: Arc<Mutex<R>>,
    exit: watch::Sender<Option<String>>,
) {
    let how = loop {
        match reports.next_line().await {
            Ok(Some(line)) => {
                if let Some(how) = line.strip_prefix("exited ") {
                    break how.to_owned();
                }
            }
            // The guardian is gone and guards nothing any more, so the program is ended too.
            Ok(None) | Err(_) => {
                record.signal(Signal::SIGKILL, &mut *lock(&residue));
                break "its guardian was killed".to_owned();
            }
        }
    };
    exit.send_replace(Some(how));
}
