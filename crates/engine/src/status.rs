//! The status of an engine, for people and programs.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

/// Where an engine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineState {
    /// Not running; the next request starts it.
    Stopped,
    /// On its way to ready.
    Starting,
    /// Takes requests.
    Ready,
    /// Its process is there, its GPU memory is free; the next request wakes it.
    Sleeping,
    /// Takes no new requests; ends when the running ones have, or is ending.
    Draining,
    /// Failed more than once: no start before the backoff has passed.
    BackingOff,
    /// Failed; the next request tries again.
    Failed,
}

/// How far a start is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StartPhase {
    /// Other engines hold the memory that it needs, and are being preempted.
    WaitingForRoom,
    /// The process is being created.
    Spawning,
    /// It runs and loads the model.
    Loading,
    /// It compiles its kernels, or records them.
    Compiling,
    /// It is being woken from sleep.
    Waking,
    /// It reports that it is healthy, and its first request runs.
    WarmingUp,
}

impl StartPhase {
    /// In words, for people that wait.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WaitingForRoom => "waiting for memory",
            Self::Spawning => "starting its process",
            Self::Loading => "loading weights",
            Self::Compiling => "compiling",
            Self::Waking => "waking up",
            Self::WarmingUp => "answering its first request",
        }
    }
}

/// The status of an engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EngineStatus {
    /// The provider's name.
    pub name: String,
    /// Where it is in its life.
    pub state: EngineState,
    /// How far its start is, while it starts.
    pub phase: Option<StartPhase>,
    /// Percent of that phase, where the engine reports it.
    pub percent: Option<u8>,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The engine's process, the leader of its group.
    pub pid: Option<u32>,
    /// The loopback port that it listens on.
    pub port: Option<u16>,
    /// The Unix socket that it listens on, where it is not a port.
    pub socket: Option<PathBuf>,
    /// The model that it runs.
    pub model: String,
    /// Requests that run on it.
    pub in_flight: usize,
    /// Requests that wait for a place, or for it to be ready.
    pub queued: usize,
    /// When a request last ended on it.
    pub last_used: Option<Timestamp>,
    /// Memory of its whole process group, bytes.
    pub resident_bytes: Option<u64>,
    /// Starts since the agent started.
    pub starts: u32,
    /// Why it last failed.
    pub last_error: Option<String>,
}
