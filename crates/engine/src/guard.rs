//! The commands of handles and guards to an engine's actor, and the guard itself: while a request holds it, the engine does
//! not stop.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{
    endpoint::Endpoint,
    error::EngineError,
    lifecycle::state::{StopCause, WaiterId},
};

pub(crate) type GuardSender = oneshot::Sender<Result<EngineGuard, EngineError>>;

/// What the actor is asked to do, or has to know.
pub(crate) enum Command {
    Wait { id: WaiterId, is_request: bool, guard: GuardSender },
    WaiterLeft { id: WaiterId },
    Prewarm,
    Released { start: u32, since: Instant, suspect: bool },
    Preempt { start: u32 },
    Stop { cause: StopCause, done: oneshot::Sender<()> },
}

/// Keeps an engine from being stopped while a request runs on it.
#[derive(Debug)]
pub struct EngineGuard {
    endpoint: Arc<Endpoint>,
    start: u32,
    since: Instant,
    suspect: bool,
    commands: mpsc::UnboundedSender<Command>,
}

impl EngineGuard {
    pub(crate) fn new(endpoint: Arc<Endpoint>, start: u32, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self { endpoint, start, since: Instant::now(), suspect: false, commands }
    }

    /// Releases an engine that did not respond as a healthy one does. It gets no new request until a health check has
    /// passed, and is ended if the check fails.
    pub fn release_suspect(mut self) {
        self.suspect = true;
    }

    /// Where requests to the engine go.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for EngineGuard {
    fn drop(&mut self) {
        let Self { start, since, suspect, .. } = *self;
        let _ = self.commands.send(Command::Released { start, since, suspect });
    }
}
