//! The handle by which an engine is used: ask for it to be ready, hold the guard while the request runs.

use std::{path::PathBuf, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    actor::{Actor, Command},
    endpoint::{Endpoint, EngineHost},
    error::EngineError,
    group,
    log::EngineLog,
    spec::EngineSpec,
    status::EngineStatus,
};

/// An engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    name: String,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<EngineStatus>,
    log: Arc<EngineLog>,
}

/// Keeps an engine from being stopped while a request runs on it.
#[derive(Debug)]
pub struct EngineGuard {
    endpoint: Arc<Endpoint>,
    start: u32,
    commands: mpsc::UnboundedSender<Command>,
}

impl EngineGuard {
    pub(crate) fn new(endpoint: Arc<Endpoint>, start: u32, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { endpoint, start, commands }
    }

    /// Where the engine is asked.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for EngineGuard {
    fn drop(&mut self) {
        let _ = self.commands.send(Command::Released { start: self.start });
    }
}

impl Engine {
    /// An engine that is stopped; the first [`Engine::ensure_ready`] starts it. Runs on the current tokio runtime.
    pub fn new(spec: EngineSpec, host: EngineHost) -> Self {
        let name = spec.name.clone();
        let log = Arc::new(EngineLog::new(&host.log_dir, &name));
        let (commands, received) = mpsc::unbounded_channel();
        let (actor, status) = Actor::new(spec, host, Arc::clone(&log), commands.downgrade());
        tokio::spawn(actor.run(received));
        Self { name, commands, status, log }
    }

    /// Waits until the engine is ready, starting it if need be; everybody who waits shares one start.
    ///
    /// # Errors
    /// When it does not become ready, or not before the deadline.
    pub async fn ensure_ready(&self, deadline: Instant) -> Result<EngineGuard, EngineError> {
        let (answer, ready) = oneshot::channel();
        let ended = || EngineError::ShuttingDown { name: self.name.clone() };
        self.commands.send(Command::EnsureReady(answer)).map_err(|_| ended())?;
        match tokio::time::timeout_at(deadline, ready).await {
            Ok(answered) => answered.map_err(|_| ended())?,
            Err(_) => Err(EngineError::Deadline { name: self.name.clone() }),
        }
    }

    /// Lets running requests end, then stops the engine; the next request starts it again.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop { done, for_good: false }).is_ok() {
            let _ = stopped.await;
        }
    }

    /// As [`Engine::stop`], and for good.
    pub async fn shutdown(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop { done, for_good: true }).is_ok() {
            let _ = stopped.await;
        }
    }

    /// What it is doing at this moment.
    pub fn status(&self) -> EngineStatus {
        let mut status = self.status.borrow().clone();
        status.resident_bytes = status.pid.and_then(group::resident_bytes);
        status
    }

    /// Tells of every change of what it is doing.
    pub fn progress(&self) -> watch::Receiver<EngineStatus> {
        self.status.clone()
    }

    /// The log of the current or last start.
    pub fn log_file(&self) -> PathBuf {
        self.log.path().to_owned()
    }

    /// The log of the start before.
    pub fn previous_log_file(&self) -> PathBuf {
        self.log.previous().to_owned()
    }

    /// The last lines of the log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.log.tail(lines)
    }
}
