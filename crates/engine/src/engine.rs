//! The handle by which an engine is used: ask for it to be ready, hold the guard while the request runs.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use jiff::Timestamp;
use mcpctl_supervisor::process_group;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use crate::{
    actor::Actor,
    arbiter::Claim,
    endpoint::EngineHost,
    error::EngineError,
    guard::{Command, EngineGuard},
    log::EngineLog,
    options::EngineOptions,
    spec::EngineSpec,
    start::Starter,
    state::WaiterId,
    status::{EngineState, EngineStatus},
};

/// An engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    name: String,
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<EngineStatus>,
    host: EngineHost,
    claim: Claim,
    log: Arc<EngineLog>,
    next_waiter: Arc<AtomicU64>,
}

/// Says that somebody does not wait any more, unless there was an answer.
struct Waiting<'a> {
    id: WaiterId,
    commands: &'a mpsc::UnboundedSender<Command>,
    answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.answered {
            let _ = self.commands.send(Command::Left { id: self.id });
        }
    }
}

impl Engine {
    /// An engine that is stopped; the first [`Engine::ensure_ready`] starts it. Runs on the current tokio runtime.
    pub fn new(spec: EngineSpec, host: EngineHost) -> Self {
        Self::with_options(spec, EngineOptions::default(), host)
    }

    /// As [`Engine::new`], with what is seldom said.
    pub fn with_options(spec: EngineSpec, options: EngineOptions, host: EngineHost) -> Self {
        let name = spec.name.clone();
        let log = Arc::new(EngineLog::new(spec.server, &host.log_dir, &name));
        let (commands, received) = mpsc::unbounded_channel();
        let (told, status) = watch::channel(EngineStatus {
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
            starts: 0,
            last_error: None,
        });
        let claim = Claim::of(&options);
        let kept = host.clone();
        let starter = Starter { spec, options, host, log: Arc::clone(&log) };
        tokio::spawn(Actor::run(starter, told, commands.downgrade(), received));
        Self { name, commands, status, host: kept, claim, log, next_waiter: Arc::default() }
    }

    /// Waits until the engine is ready, starting it if need be; everybody who waits shares one start. Whoever lets go
    /// of the wait does not disturb the others.
    ///
    /// # Errors
    /// When it does not become ready, or not before the deadline.
    pub async fn ensure_ready(&self, deadline: Instant) -> Result<EngineGuard, EngineError> {
        self.ask(deadline, false).await
    }

    /// As [`Engine::ensure_ready`], ahead of need: who asks so takes none of the places of those who have a request.
    ///
    /// # Errors
    /// As [`Engine::ensure_ready`].
    pub async fn warm_up(&self, deadline: Instant) -> Result<(), EngineError> {
        self.ask(deadline, true).await.map(drop)
    }

    async fn ask(&self, deadline: Instant, warms: bool) -> Result<EngineGuard, EngineError> {
        let ended = || EngineError::ShuttingDown { name: self.name.clone() };
        let id = self.next_waiter.fetch_add(1, Ordering::Relaxed);
        let (answer, mut ready) = oneshot::channel();
        self.commands.send(Command::Ask { id, warms, answer }).map_err(|_| ended())?;
        let mut waiting = Waiting { id, commands: &self.commands, answered: false };
        match tokio::time::timeout_at(deadline, &mut ready).await {
            Ok(answered) => {
                waiting.answered = true;
                answered.map_err(|_| ended())?
            }
            Err(_) => Err(EngineError::Deadline { name: self.name.clone() }),
        }
    }

    /// Waits until a start would make no other engine give way.
    pub async fn until_vacant(&self) {
        self.host.arbiter.until_vacant(&self.claim).await;
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

    /// As [`Engine::shutdown`], and lets what runs on it take as long as it takes: another configuration has no use for it.
    pub async fn retire(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Retire { done }).is_ok() {
            let _ = stopped.await;
        }
    }

    /// Whether it was stopped for good, and is.
    pub fn is_shut_down(&self) -> bool {
        self.commands.is_closed()
    }

    /// What it is doing at this moment.
    pub fn status(&self) -> EngineStatus {
        let mut status = self.status.borrow().clone();
        status.resident_bytes = status.pid.and_then(process_group::resident_bytes);
        status
    }

    /// Tells of every change of what it is doing.
    pub fn progress(&self) -> watch::Receiver<EngineStatus> {
        self.status.clone()
    }

    /// The log of the current or last start.
    pub fn log_file(&self) -> PathBuf {
        self.log.output().path().to_owned()
    }

    /// The older part of a log that has grown too large for one file; not there while it has not.
    pub fn older_log_file(&self) -> PathBuf {
        self.log.output().older().to_owned()
    }

    /// The log of the start before.
    pub fn previous_log_file(&self) -> PathBuf {
        self.log.output().previous().to_owned()
    }
}
