//! What the families of attacks on the agent share: an agent with a centre and a local model, and raw requests to it.

use futures::{StreamExt as _, stream};
use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    exchange::{self, Exchange},
    model_server::{ModelServer, Reply},
};

/// Connections that a test holds at once: fewer than a daemon grants one peer.
const CONNECTIONS_AT_ONCE: usize = 8;

/// A request for inference.
pub const CHAT: &str = r#"{"model":"claude","messages":[{"role":"user","content":"Hi"}]}"#;

/// A centre with the Llm `claude`, an agent whose local model fails over for it, and two callers.
pub struct World {
    pub mcpd: Mcpd,
    pub provider: ModelServer,
    pub desk: ModelServer,
    pub agent: Mcplocal,
    /// May run `claude`; signed in on the agent's machine too.
    pub alice: String,
    pub key: String,
}

impl World {
    pub async fn new() -> Self {
        Self::with("").await
    }

    /// `more` goes to the top of the agent's configuration.
    pub async fn with(more: &str) -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("from the centre")).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        mcpd.llm("claude", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let config = format!(
            "server: {}\n{more}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n    failoverFor: claude\n",
            mcpd.url(),
            desk.base_url()
        );
        let agent = Mcplocal::start(&config).await;
        agent.sign_in(&mcpd, "alice", &alice);
        let key = agent.local_key();
        Self { mcpd, provider, desk, agent, alice, key }
    }

    /// `127.0.0.1:PORT` of the agent.
    pub fn address(&self) -> &str {
        self.agent.url().trim_start_matches("http://")
    }

    /// A whole HTTP/1.1 request to the agent: `line` is the request line, `headers` end with CRLF each.
    pub fn request(&self, line: &str, headers: &str, body: &str) -> String {
        format!("{line}\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n{body}", self.address())
    }

    /// Sends bytes to the agent on a connection of their own.
    pub async fn send(&self, request: impl AsRef<[u8]>) -> Exchange {
        exchange::send(self.agent.url(), request).await
    }

    /// How many requests for inference arrived anywhere.
    pub fn inferences(&self) -> usize {
        self.provider.inferences().len() + self.desk.inferences().len()
    }
}

/// The header of a bearer.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Runs `attack` on every row, a few at once.
pub async fn for_each<T, F: Future<Output = ()>>(
    rows: impl IntoIterator<Item = T>,
    attack: impl FnMut(T) -> F,
) {
    stream::iter(rows).map(attack).buffer_unordered(CONNECTIONS_AT_ONCE).collect::<Vec<()>>().await;
}

/// The headers of [`CHAT`], behind those of a credential.
pub fn chat_headers(credential: &str) -> String {
    format!("{credential}Content-Type: application/json\r\nContent-Length: {}\r\n", CHAT.len())
}
