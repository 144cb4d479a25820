//! What a request waits for, while nothing of an answer has come: a model that starts or is busy, or that has not begun.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use mcpctl_api::agent::{AgentStatus, EngineState, EngineStatus};
use mcpctl_client::Client;

use crate::{agent, output};

const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// An answer that begins sooner needs no line.
const SHOWN_AFTER: Duration = Duration::from_secs(2);
/// Prefix of the name of a local provider.
const LOCAL: &str = "local/";

/// A line with what is waited for, at standard error, where that is a terminal.
pub struct Progress<'a> {
    agent: Option<&'a Client>,
    llm: &'a str,
    is_terminal: bool,
    begun: Instant,
    shown: bool,
}

impl<'a> Progress<'a> {
    /// Of a request for this Llm, whose way leads through this agent.
    pub fn new(agent: Option<&'a Client>, llm: &'a str) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        Self { agent, llm, is_terminal, begun: Instant::now(), shown: false }
    }

    /// Waits for a future, and shows the line meanwhile.
    pub async fn show_while<T>(&mut self, waited_for: impl Future<Output = T>) -> T {
        tokio::pin!(waited_for);
        loop {
            tokio::select! {
                value = &mut waited_for => {
                    if std::mem::take(&mut self.shown) {
                        let _ = write!(anstream::stderr(), "\r\x1b[2K");
                    }
                    return value;
                }
                () = tokio::time::sleep(POLL_INTERVAL) => self.show().await,
            }
        }
    }

    async fn show(&mut self) {
        if !self.is_terminal {
            return;
        }
        let status = match self.agent {
            Some(agent) => agent.local_status().await.ok(),
            None => None,
        };
        if let Some(line) = line(status.as_ref(), self.llm, self.begun.elapsed()) {
            self.shown = true;
            let _ = write!(anstream::stderr(), "\r\x1b[2K{}", output::one_line(&line));
        }
    }
}

/// What a request for this Llm waits for; `None` while that is too short to be worth a line.
fn line(status: Option<&AgentStatus>, llm: &str, waited: Duration) -> Option<String> {
    let engine = status.and_then(|status| engine(status, llm));
    let is_late = waited >= SHOWN_AFTER;
    let seconds = waited.as_secs();
    match engine {
        Some(engine) if engine.state == EngineState::Starting => {
            Some(format!("local model `{}` is {}…", engine.name, agent::engine_state(engine)))
        }
        Some(engine) if is_late && engine.queued > 0 => Some(format!(
            "waiting for local model `{}`: it answers {}, and {} wait… {seconds} s",
            engine.name, engine.in_flight, engine.queued
        )),
        _ => is_late.then(|| format!("waiting for `{llm}`… {seconds} s")),
    }
}

/// The engine that may answer a request for this Llm.
fn engine<'a>(status: &'a AgentStatus, llm: &str) -> Option<&'a EngineStatus> {
    let provider = llm.strip_prefix(LOCAL).or_else(|| {
        let mut routes = status.failovers.iter();
        routes.find(|route| route.llm == llm).map(|route| route.provider.as_str())
    })?;
    status.providers.iter().find(|status| status.name == provider)?.engine.as_ref()
}
