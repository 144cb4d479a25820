//! The progress of a cold start, while nothing of an answer has come.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use mcpctl_api::agent::EngineState;
use mcpctl_client::Client;

use crate::{agent, output};

/// A line with the progress of a cold start, on terminals only.
pub struct Progress<'a> {
    agent: Option<&'a Client>,
    shown: bool,
}

impl<'a> Progress<'a> {
    /// Of the engines of this agent.
    pub fn new(agent: Option<&'a Client>) -> Self {
        Self { agent: agent.filter(|_| std::io::stderr().is_terminal()), shown: false }
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
                () = tokio::time::sleep(Duration::from_millis(200)) => self.show().await,
            }
        }
    }

    async fn show(&mut self) {
        let Some(agent) = self.agent else { return };
        let Ok(status) = agent.local_status().await else { return };
        let mut engines = status.providers.iter().filter_map(|provider| provider.engine.as_ref());
        if let Some(engine) = engines.find(|engine| engine.state == EngineState::Starting) {
            self.shown = true;
            let line = format!("local model `{}` is {}…", engine.name, agent::engine_state(engine));
            let _ = write!(anstream::stderr(), "\r\x1b[2K{}", output::one_line(&line));
        }
    }
}
