//! What a request waits for, while nothing of an answer has come: a model that starts or is busy, or that has not begun.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use mcpctl_api::agent::{AgentStatus, EngineState};
use mcpctl_client::Client;

use crate::{
    agent,
    output::{self, terminal},
};

const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The agent is on this machine.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);
/// An answer that begins sooner needs no line.
const SHOWN_AFTER: Duration = Duration::from_secs(2);
/// Prefix of the name of a local provider.
const LOCAL: &str = "local/";

/// A line with what is waited for, at standard error, where that is a terminal.
pub struct Progress<'a> {
    agent: Option<&'a Client>,
    llm: &'a str,
    /// The local provider that the request is known to wait for: another request may keep others busy.
    provider: Option<String>,
    is_terminal: bool,
    begun: Instant,
    /// The line that stands there; empty where none does.
    shown: String,
}

impl<'a> Progress<'a> {
    /// Of a request for this Llm, whose way leads through this agent.
    pub fn new(agent: Option<&'a Client>, llm: &'a str) -> Self {
        let provider = llm.strip_prefix(LOCAL).map(str::to_owned);
        let (is_terminal, begun) = (std::io::stderr().is_terminal(), Instant::now());
        Self { agent, llm, provider, is_terminal, begun, shown: String::new() }
    }

    /// The request falls back to this provider.
    pub fn falls_back_to(&mut self, provider: &str) {
        self.provider = Some(provider.to_owned());
    }

    /// Waits for a future, and shows the line meanwhile.
    pub async fn show_while<T>(&mut self, waited_for: impl Future<Output = T>) -> T {
        tokio::pin!(waited_for);
        loop {
            // The agent's status is asked for beside the request, which goes on meanwhile.
            let line = tokio::select! {
                biased;
                value = &mut waited_for => {
                    self.replace(String::new());
                    return value;
                }
                line = self.next_line() => line,
            };
            self.replace(line);
        }
    }

    /// The line after the next interval; never where no terminal shows it.
    async fn next_line(&self) -> String {
        if !self.is_terminal {
            return std::future::pending().await;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
        let status = match self.agent.filter(|_| self.provider.is_some()) {
            Some(agent) => tokio::time::timeout(STATUS_TIMEOUT, agent.local_status()).await.ok(),
            None => None,
        };
        let status = status.and_then(Result::ok);
        let line = line(status.as_ref(), self.llm, self.provider.as_deref(), self.begun.elapsed());
        let line = line.map(|line| output::one_line(&line)).unwrap_or_default();
        // The end of a longer one would stay on the row above it.
        let columns =
            terminal::error_width().map_or(usize::MAX, |width| usize::from(width).saturating_sub(1));
        line.chars().take(columns).collect()
    }

    fn replace(&mut self, line: String) {
        if line != self.shown {
            let _ = write!(anstream::stderr(), "\r\x1b[2K{line}");
            self.shown = line;
        }
    }
}

/// What a request for this Llm waits for; `None` while that is too short to be worth a line.
fn line(status: Option<&AgentStatus>, llm: &str, provider: Option<&str>, waited: Duration) -> Option<String> {
    let mut providers = status.into_iter().flat_map(|status| &status.providers);
    let provider = provider.and_then(|name| providers.find(|status| status.name == name));
    let is_late = waited >= SHOWN_AFTER;
    let seconds = waited.as_secs();
    match provider.and_then(|provider| provider.engine.as_ref()) {
        Some(engine) if engine.state == EngineState::Starting => {
            Some(format!("local model `{}` is {}…", engine.name, agent::engine_state(engine)))
        }
        Some(engine) if is_late && engine.queued > 0 => Some(format!(
            "local model `{}` is busy: {} run, {} wait… {seconds} s",
            engine.name, engine.in_flight, engine.queued
        )),
        _ => is_late.then(|| format!("waiting for `{llm}`… {seconds} s")),
    }
}
