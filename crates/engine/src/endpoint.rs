//! What an engine needs from the agent, and how a ready engine is reached.

use std::{path::PathBuf, sync::Arc};

use secrecy::SecretString;
use url::Url;

use crate::{Arbiter, EngineSocket, suspend::SuspendClock};

/// What engines need of the agent that starts them.
#[derive(Debug, Clone)]
pub struct EngineHost {
    /// An executable that calls [`crate::guardian::run`] when `engine-guardian` is its first argument.
    pub guardian: PathBuf,
    /// The directory for records of started engines and for their sockets.
    pub state_dir: PathBuf,
    /// The directory for logs.
    pub log_dir: PathBuf,
    /// Decides which engines may hold memory.
    pub arbiter: Arc<Arbiter>,
    /// How long the machine was suspended.
    pub suspended: SuspendClock,
}

impl EngineHost {
    /// For an agent with an arbiter and a suspend clock of its own.
    pub fn new(guardian: PathBuf, state_dir: PathBuf, log_dir: PathBuf) -> Self {
        Self { guardian, state_dir, log_dir, arbiter: Arc::default(), suspended: SuspendClock::default() }
    }
}

/// How requests reach a ready engine.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// The base address of the OpenAI API, `http://127.0.0.1:PORT/v1`; its host is not used where there is a socket.
    pub base_url: Url,
    /// The Unix socket that it listens on, if not on a port.
    pub socket: Option<EngineSocket>,
    /// Valid for this start alone.
    pub api_key: SecretString,
    /// The model's name in requests.
    pub model: String,
    /// A client for this start alone.
    pub http: reqwest::Client,
}
