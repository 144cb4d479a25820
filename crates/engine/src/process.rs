//! An engine's process as the agent holds it: by its guardian. Letting go of it ends it.

use std::{
    path::Path,
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
    environment,
    error::EngineError,
    guardian,
    launch::Launch,
    log::{EngineLog, Lines},
    random,
    record::{Record, RecordFile},
    shared_memory::SharedMemory,
};

/// How long the guardian may take to say that the engine runs.
const SPAWN: Duration = Duration::from_secs(10);
/// How long the guardian may take to end the engine; its own ladder takes 15 s at most before it kills.
const STOP: Duration = Duration::from_secs(20);
/// How long what was killed may take to be gone.
const KILLED: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running engine.
pub(crate) struct Process {
    pub(crate) pid: u32,
    exited: watch::Receiver<Option<String>>,
    flush: mpsc::UnboundedSender<oneshot::Sender<()>>,
    guardian: Child,
    stdin: Option<ChildStdin>,
    record: Record,
    file: Option<RecordFile>,
    /// What it shared when it was killed by us.
    shared: Arc<Mutex<SharedMemory>>,
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
        let mark = random::hex().map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(guardian);
        // INVARIANT 10: neither the tokens that our own programs read from the environment, nor anything else that nobody
        // listed. The guardian needs nothing of it.
        command.env_clear().envs(environment::inherited());
        let mut child = command
            .args([guardian::WORD, &mark])
            .arg(&launch.program)
            .args(&launch.args)
            .envs(launch.env.iter().map(|(key, value)| (key, value)))
            // Out of the terminal's foreground group: Ctrl-C is for the agent, which decides what to end.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("its guardian `{}`: {error}", guardian.display())))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(failed("its pipes are missing".to_owned()));
        };
        let (flush, flushes) = mpsc::unbounded_channel();
        tokio::spawn(pump(stderr, Arc::clone(log), flushes));
        let mut reports = BufReader::new(stdout).lines();
        let first = tokio::time::timeout(SPAWN, reports.next_line()).await;
        let first = first.ok().and_then(Result::ok).flatten();
        let pid = match first.as_deref().and_then(|line| line.split_once(' ')) {
            Some(("started", pid)) => {
                pid.parse().map_err(|_| failed("the guardian is not ours".to_owned()))?
            }
            Some(("failed", reason)) => {
                return Err(failed(format!("`{}`: {reason}", launch.program.display())));
            }
            _ => return Err(failed("the guardian did not answer".to_owned())),
        };
        let record = Record::of(name, pid, &mark);
        let file = RecordFile::write(state_dir, &record)
            .inspect_err(|error| tracing::warn!(%error, "the engine's record cannot be written"))
            .ok();
        let (told, exited) = watch::channel(None);
        let shared = Arc::default();
        tokio::spawn(hear(reports, record.clone(), Arc::clone(&shared), told));
        Ok(Self { pid, exited, flush, guardian: child, stdin: Some(stdin), record, file, shared })
    }

    /// Waits until the engine has ended and its last words are in the log, and says how. Does not borrow the process.
    pub(crate) fn ended(&self) -> impl Future<Output = String> + Send + use<> {
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

    /// Ends the engine and everything it started, and waits until nothing of it is left.
    pub(crate) async fn stop(mut self) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(format!("{}\n", guardian::STOP).as_bytes()).await;
            let _ = stdin.flush().await;
        }
        // The guardian ends when nothing of the engine is left.
        if tokio::time::timeout(STOP, self.guardian.wait()).await.is_err() {
            let _ = self.guardian.start_kill();
            let _ = self.guardian.wait().await;
        }
        // A guardian that was killed has left that to us.
        let gone = async {
            while self.record.is_left() {
                self.record.signal(Signal::SIGKILL, &mut locked(&self.shared));
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match tokio::time::timeout(KILLED, gone).await {
            Ok(()) => {
                std::mem::take(&mut *locked(&self.shared)).remove();
                if let Some(file) = self.file.take() {
                    file.remove();
                }
            }
            // The record stays, so that the next sweep sees to it.
            Err(_) => tracing::error!(pid = self.pid, "the engine was killed and is still there"),
        }
    }
}

fn locked(shared: &Mutex<SharedMemory>) -> MutexGuard<'_, SharedMemory> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Process {
    /// The closing pipe tells the guardian. The record stays: the next agent looks whether anything did.
    fn drop(&mut self) {
        drop(self.stdin.take());
    }
}

/// Brings what the engine writes into its log. A flush is answered when all that had been written is there: reading
/// goes first, so its turn comes only when there is nothing to read.
async fn pump(
    mut output: ChildStderr,
    log: Arc<EngineLog>,
    mut flushes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    let (mut lines, mut buffer) = (Lines::default(), vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            biased;
            read = output.read(&mut buffer) => match read {
                Ok(length @ 1..) => {
                    lines.push(buffer.get(..length).unwrap_or_default(), |line| drop(log.line(line)));
                }
                _ => break,
            },
            Some(done) = flushes.recv() => {
                lines.end(|line| drop(log.line(line)));
                let _ = done.send(());
            }
        }
    }
    lines.end(|line| drop(log.line(line)));
}

/// Waits for the guardian to say how the engine ended.
async fn hear(
    mut reports: tokio::io::Lines<BufReader<ChildStdout>>,
    record: Record,
    shared: Arc<Mutex<SharedMemory>>,
    told: watch::Sender<Option<String>>,
) {
    let how = loop {
        match reports.next_line().await {
            Ok(Some(line)) => {
                if let Some(how) = line.strip_prefix("exited ") {
                    break how.to_owned();
                }
            }
            // The guardian itself is gone: nobody watches the engine any more, so it goes too.
            Ok(None) | Err(_) => {
                record.signal(Signal::SIGKILL, &mut locked(&shared));
                break "its guardian was killed".to_owned();
            }
        }
    };
    told.send_replace(Some(how));
}
