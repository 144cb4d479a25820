//! Why an engine did not become ready; all waiters of one start get the same error.

use std::time::Duration;

use crate::SpecError;

/// Why an engine is not ready. One line; the engine's own output is in its log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Something that a start needs is missing.
    #[error("engine `{name}`: {source}")]
    Spec {
        /// The engine.
        name: String,
        /// What is missing.
        source: SpecError,
    },
    /// It exited before it was ready, or while it was.
    #[error("engine `{name}` ended by itself ({how}){}", colon(diagnosis))]
    Exited {
        /// The engine.
        name: String,
        /// With which code or signal.
        how: String,
        /// Its first complaint, or the last line of its log.
        diagnosis: String,
    },
    /// It was not ready in time.
    #[error("engine `{name}` was not ready within {} s{}", limit.as_secs(), colon(diagnosis))]
    StartTimeout {
        /// The engine.
        name: String,
        /// The time that it had.
        limit: Duration,
        /// Its first complaint, or the last line of its log.
        diagnosis: String,
    },
    /// The waiter's deadline has passed; the start goes on for others.
    #[error("engine `{name}` is not ready yet")]
    Deadline {
        /// The engine.
        name: String,
    },
    /// It failed so often that no start is tried before the backoff has passed.
    #[error("engine `{name}` rests for {} s after {failures} failed starts: {last}", wait.as_secs().max(1))]
    BackingOff {
        /// The engine.
        name: String,
        /// How many starts failed in a row.
        failures: u32,
        /// How long that still takes.
        wait: Duration,
        /// Why the last one failed.
        last: String,
    },
    /// It could not be spawned.
    #[error("engine `{name}` cannot be spawned: {reason}")]
    Spawn {
        /// The engine.
        name: String,
        /// Why.
        reason: String,
    },
    /// Another process listens on its port.
    #[error("engine `{name}`: another process is at port {port}, which was chosen for it")]
    PortTaken {
        /// The engine.
        name: String,
        /// The port.
        port: u16,
    },
    /// It reports that it is healthy, but rejects completions and embeddings.
    #[error("engine `{name}` is healthy but refuses its first request ({refusal})")]
    WarmUp {
        /// The engine.
        name: String,
        /// The status, and the beginning of the body.
        refusal: String,
    },
    /// As many requests run on it and wait for it as are allowed.
    #[error("engine `{name}` has no room: {waiting} requests wait already")]
    Busy {
        /// The engine.
        name: String,
        /// Requests that wait.
        waiting: usize,
        /// When there may be room.
        retry_after: Duration,
    },
    /// There is not enough memory for it.
    #[error("engine `{name}` {reason}")]
    NoRoom {
        /// The engine.
        name: String,
        /// What it needs, and what there is.
        reason: String,
        /// What to do.
        hint: String,
    },
    /// It could not be put to sleep, or woken.
    #[error("engine `{name}` cannot {what}: {reason}")]
    Standby {
        /// The engine.
        name: String,
        /// `sleep` or `wake`.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// It runs and does not respond any more.
    #[error("engine `{name}` does not answer any more: {reason}")]
    Hung {
        /// The engine.
        name: String,
        /// How its health check failed.
        reason: String,
    },
    /// A user stopped it meanwhile.
    #[error("engine `{name}` was stopped")]
    Stopped {
        /// The engine.
        name: String,
    },
    /// The agent is ending.
    #[error("engine `{name}` is shutting down")]
    ShuttingDown {
        /// The engine.
        name: String,
    },
}

impl EngineError {
    /// What to do about it, where there is something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spec { source, .. } => source.hint(),
            Self::NoRoom { hint, .. } => Some(hint.clone()),
            Self::Exited { name, .. }
            | Self::StartTimeout { name, .. }
            | Self::WarmUp { name, .. }
            | Self::BackingOff { name, .. } => Some(format!("mcpctl local logs {name}")),
            Self::Busy { .. } => {
                Some("try again, or raise `concurrency` or `queue` of the provider".to_owned())
            }
            Self::Standby { .. } => Some("leave out `swap: standby`, which needs a GPU".to_owned()),
            Self::Deadline { .. }
            | Self::Hung { .. }
            | Self::Spawn { .. }
            | Self::PortTaken { .. }
            | Self::Stopped { .. }
            | Self::ShuttingDown { .. } => None,
        }
    }
}

impl EngineError {
    /// Whether the engine ran and then failed, so that trying again is costly and needs a backoff. Looking again for a missing
    /// file or for memory costs nothing.
    pub(crate) fn is_costly(&self) -> bool {
        !matches!(self, Self::Spec { .. } | Self::NoRoom { .. })
    }
}

/// The engine's own words, as the end of one line.
fn colon(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}
