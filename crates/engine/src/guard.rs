//! What an engine's owner is asked for, and the guard that is the answer: it keeps the engine from being stopped while a
//! request runs on it.

use std::sync::Arc;

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use crate::{endpoint::Endpoint, error::EngineError, state::WaiterId};

pub(crate) type Answer = oneshot::Sender<Result<EngineGuard, EngineError>>;

/// What handles and guards want.
pub(crate) enum Command {
    Ask { id: WaiterId, warms: bool, answer: Answer },
    Left { id: WaiterId },
    Released { start: u32, since: Instant, suspect: bool },
    Yield { start: u32 },
    Stop { done: oneshot::Sender<()>, for_good: bool },
    Retire { done: oneshot::Sender<()> },
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

    /// Lets go of the engine, and says that it did not answer as one does that is well. It gets no new request until it has
    /// answered again, and is ended where it does not.
    pub fn release_suspect(mut self) {
        self.suspect = true;
    }

    /// Where the engine is asked.
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
