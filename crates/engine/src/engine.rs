//! The handle of an engine: wait until it is ready, and hold the guard while the request runs.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use mcpctl_supervisor::process_group;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    endpoint::EngineHost,
    error::EngineError,
    guard::{Command, EngineGuard},
    lifecycle::{
        actor::Actor,
        start::Starter,
        state::{StopCause, WaiterId},
    },
    log::EngineLog,
    options::EngineOptions,
    spec::EngineSpec,
    status::{EngineState, EngineStatus},
};

/// An engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    name: String,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<EngineStatus>,
    /// Published by the actor.
    prewarmed: Arc<AtomicBool>,
    log: Arc<EngineLog>,
    next_waiter: Arc<AtomicU64>,
}

/// Reports a waiter that left before it was answered.
struct WaiterDrop<'a> {
    id: WaiterId,
    commands: &'a mpsc::UnboundedSender<Command>,
    answered: bool,
}

impl Drop for WaiterDrop<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.commands.send(Command::WaiterLeft { id: self.id });
        }
    }
}

impl Engine {
    /// An engine that is stopped; the first [`Engine::ensure_ready`] starts it. Runs on the current tokio runtime.
    pub fn new(spec: EngineSpec, host: EngineHost) -> Self {
        Self::with_options(spec, EngineOptions::default(), host)
    }

    /// As [`Engine::new`], with options.
    pub fn with_options(spec: EngineSpec, options: EngineOptions, host: EngineHost) -> Self {
        let name = spec.name.clone();
        let log = Arc::new(EngineLog::new(spec.server, &host.log_dir, &name));
        let (commands, received) = mpsc::unbounded_channel();
        let (publisher, status) = watch::channel(EngineStatus {
            name: name.clone(),
            state: EngineState::Stopped,
            phase: None,
            percent: None,
            since: Timestamp::now(),
            pid: None,
            port: None,
            socket: None,
            model: spec.model.clone(),
            in_flight: 0,
            queued: 0,
            last_used: None,
            resident_bytes: None,
            gpu_bytes: None,
            starts: 0,
            last_error: None,
        });
        let starter = Starter { spec, options, host, log: Arc::clone(&log) };
        let prewarmed = Arc::default();
        let actor = Actor::run(starter, publisher, Arc::clone(&prewarmed), commands.downgrade(), received);
        tokio::spawn(actor);
        Self { name, commands, status, prewarmed, log, next_waiter: Arc::default() }
    }

    /// Waits until the engine is ready, and starts it where it is not running. All waiters share one start; dropping one
    /// wait does not disturb the others.
    ///
    /// # Errors
    /// When it does not become ready, or not before the deadline.
    pub async fn ensure_ready(&self, deadline: Instant) -> Result<EngineGuard, EngineError> {
        self.wait(deadline, true).await
    }

    /// Starts the engine for a user, and waits as [`Engine::ensure_ready`] does; takes no place of a request.
    ///
    /// # Errors
    /// As [`Engine::ensure_ready`].
    pub async fn start(&self, deadline: Instant) -> Result<EngineGuard, EngineError> {
        self.wait(deadline, false).await
    }

    /// Has the engine made ready because it is likely to be needed soon. Takes no place of a request and does not wait; the
    /// start goes on although no request waits for it. Idempotent.
    pub fn prewarm(&self) {
        let _ = self.commands.send(Command::Prewarm);
    }

    /// Whether [`Engine::prewarm`] would change nothing at this moment: the engine is ready, or a prewarm is pending.
    pub fn is_prewarmed(&self) -> bool {
        self.prewarmed.load(Ordering::Acquire)
    }

    async fn wait(&self, deadline: Instant, is_request: bool) -> Result<EngineGuard, EngineError> {
        let ended = || EngineError::ShuttingDown { name: self.name.clone() };
        let id = self.next_waiter.fetch_add(1, Ordering::Relaxed);
        let (guard, mut ready) = oneshot::channel();
        self.commands.send(Command::Wait { id, is_request, guard }).map_err(|_| ended())?;
        let mut waiter = WaiterDrop { id, commands: &self.commands, answered: false };
        match tokio::time::timeout_at(deadline, &mut ready).await {
            Ok(answered) => {
                waiter.answered = true;
                answered.map_err(|_| ended())?
            }
            Err(_) => Err(EngineError::Deadline { name: self.name.clone() }),
        }
    }

    /// Stops the engine for a user, once running requests have ended or the drain timeout has passed. The next request
    /// starts it again.
    pub async fn stop(&self) {
        self.stop_for(StopCause::User).await;
    }

    /// As [`Engine::stop`], because the agent ends: the engine is never started again.
    pub async fn shutdown(&self) {
        self.stop_for(StopCause::Shutdown).await;
    }

    /// As [`Engine::shutdown`], because the configuration has no more use for it: running requests may take as long as
    /// they take.
    pub async fn retire(&self) {
        self.stop_for(StopCause::Retirement).await;
    }

    async fn stop_for(&self, cause: StopCause) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop { cause, done }).is_ok() {
            let _ = stopped.await;
        }
    }

    /// Whether it has stopped and is never started again.
    pub fn is_shut_down(&self) -> bool {
        self.commands.is_closed()
    }

    /// Its status now, without what it holds of the machine's memory.
    pub fn status(&self) -> EngineStatus {
        self.status.borrow().clone()
    }

    /// Its status now, with the main memory that it holds. Reads about every process of the machine, so it is for people who look,
    /// and not for requests.
    pub fn measured_status(&self) -> EngineStatus {
        let mut status = self.status();
        status.resident_bytes = status.pid.and_then(process_group::resident_bytes);
        status
    }

    /// Its status at each change.
    pub fn progress(&self) -> watch::Receiver<EngineStatus> {
        self.status.clone()
    }

    /// The log of the current or last start.
    pub fn log_file(&self) -> PathBuf {
        self.log.output().path().to_owned()
    }

    /// The older part of a log that has grown too large for one file; does not exist before that.
    pub fn older_log_file(&self) -> PathBuf {
        self.log.output().older().to_owned()
    }

    /// The log of the start before.
    pub fn previous_log_file(&self) -> PathBuf {
        self.log.output().previous().to_owned()
    }
}
