//! What an engine is given by the agent, and what it gives to those who ask it.

use std::{path::PathBuf, sync::Arc};

use secrecy::SecretString;
use url::Url;

use crate::{Arbiter, EngineSocket, suspend::SuspendClock};

/// What engines need of the agent that starts them.
#[derive(Debug, Clone)]
pub struct EngineHost {
    /// Run with `engine-guardian` as its first argument, it calls [`crate::guardian::run`].
    pub guardian: PathBuf,
    /// For records of what was started.
    pub state_dir: PathBuf,
    /// For logs.
    pub log_dir: PathBuf,
    /// Who may hold memory.
    pub arbiter: Arc<Arbiter>,
    /// How long the machine was suspended.
    pub suspended: SuspendClock,
}

impl EngineHost {
    /// For an agent whose engines share nothing with another's.
    pub fn new(guardian: PathBuf, state_dir: PathBuf, log_dir: PathBuf) -> Self {
        Self { guardian, state_dir, log_dir, arbiter: Arc::default(), suspended: SuspendClock::default() }
    }
}

/// Where a ready engine is asked.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// OpenAI's base address, `http://127.0.0.1:PORT/v1`; of a socket the host says nothing.
    pub base_url: Url,
    /// The Unix socket that it listens on, where it is not a port.
    pub socket: Option<EngineSocket>,
    /// Good for this start alone.
    pub api_key: SecretString,
    /// The model's name in requests.
    pub model: String,
    /// Connections to this start of the engine alone.
    pub http: reqwest::Client,
}
