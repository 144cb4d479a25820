//! What an engine's owner is asked for, and the guard that is the answer: it keeps the engine from being stopped while a
//! request runs on it.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use crate::{endpoint::Endpoint, error::EngineError, state::WaiterId};

pub(crate) type Answer = oneshot::Sender<Result<EngineGuard, EngineError>>;

/// What handles and guards want.
pub(crate) enum Command {
    Ask { id: WaiterId, answer: Answer },
    Left { id: WaiterId },
    Released { start: u32 },
    Stop { done: oneshot::Sender<()>, for_good: bool },
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
