//! Shared by the attacks: an mcpd with two Llms and three callers, and requests as raw bytes.

use futures::{StreamExt as _, stream};
use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions},
    exchange::{self, Exchange},
    model_server::ModelServer,
    process,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

/// Connections that a test holds at once: fewer than a daemon grants one peer.
const CONNECTIONS_AT_ONCE: usize = 8;

/// The model of the Llm `closed` at its provider. Only `view` shows it, and only `run` sends it.
pub const CLOSED_MODEL: &str = "closed-model-marker";

/// Processor time of a daemon for what a stranger sends, compared with its time for plain requests of the same length, so that
/// the bound holds on a slow or busy machine too.
pub struct Work {
    pid: u32,
    /// The most that one request may take, in seconds.
    most: f64,
}

impl Work {
    /// How many times the work of a plain request is too much.
    const MAX_FACTOR: f64 = 20.0;
    /// In seconds: the clock has ticks of a hundredth, and other threads of the daemon work too.
    const SLACK: f64 = 0.5;
    const PLAIN_REQUESTS: u32 = 10;

    /// Measures plain requests.
    pub async fn of_plain(mcpd: &Mcpd, plain: impl AsyncFn()) -> Self {
        let begun = process::processor_seconds(mcpd.pid());
        for _ in 0..Self::PLAIN_REQUESTS {
            plain().await;
        }
        let each = (process::processor_seconds(mcpd.pid()) - begun) / f64::from(Self::PLAIN_REQUESTS);
        Self { pid: mcpd.pid(), most: each * Self::MAX_FACTOR + Self::SLACK }
    }

    /// Fails where this takes the daemon more work than it is worth.
    pub async fn bounded<T>(&self, what: &str, request: impl Future<Output = T>) -> T {
        let begun = process::processor_seconds(self.pid);
        let result = request.await;
        let took = process::processor_seconds(self.pid) - begun;
        assert!(took <= self.most, "{what} took {took:.2} s of processor time, more than {:.2} s", self.most);
        result
    }
}

/// A daemon whose provider serves the Llms `open` and `closed`.
pub struct World {
    pub mcpd: Mcpd,
    pub provider: ModelServer,
    /// May do everything.
    pub admin: String,
    /// May view and run `open`, and nothing else.
    pub alice: String,
    /// Has a credential and no rights.
    pub bob: String,
}

impl World {
    pub async fn new() -> Self {
        Self::with(McpdOptions::default()).await
    }

    pub async fn with(options: McpdOptions) -> Self {
        let mcpd = Mcpd::start_with(options).await;
        let provider = ModelServer::start().await;
        let url = provider.base_url();
        mcpd.apply(json!([
            {"kind": "Llm", "name": "open", "type": "openai", "url": url, "model": "open-model"},
            {"kind": "Llm", "name": "closed", "type": "openai", "url": url, "model": CLOSED_MODEL},
            {"kind": "Role", "name": "open-user",
             "rules": [{"kinds": ["llms"], "verbs": ["view", "run"], "names": ["open"]}]},
        ]))
        .await;
        let alice = mcpd.user("alice", Some("open-user")).await;
        let bob = mcpd.user("bob", None).await;
        let admin = mcpd.admin();
        Self { mcpd, provider, admin, alice, bob }
    }

    /// A whole HTTP/1.1 request: `line` is the request line, `headers` end with CRLF each.
    pub fn request(&self, line: &str, headers: &str, body: &str) -> String {
        let host = self.mcpd.url().trim_start_matches("http://");
        format!("{line}\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n{body}")
    }

    /// Sends bytes on a connection of their own.
    pub async fn send(&self, request: impl AsRef<[u8]>) -> Exchange {
        exchange::send(self.mcpd.url(), request).await
    }

    /// Every resource of every kind, as the administrator sees it.
    pub async fn resources(&self) -> Value {
        let mut all = json!({});
        for kind in
            ["llms", "secrets", "users", "groups", "serviceaccounts", "roles", "rolebindings", "tokens"]
        {
            let listed = self.mcpd.get(&format!("/api/v1/{kind}"), &self.admin).await;
            assert_eq!(listed.status(), StatusCode::OK, "{kind}");
            let listed: Value = listed.json().await.unwrap();
            all[kind] = listed["items"].clone();
        }
        all
    }

    /// Fails where `closed` was shown in an answer or asked for at the provider.
    pub fn assert_closed_was_not_reached(&self, input: &str, answer: &str) {
        assert!(!answer.contains(CLOSED_MODEL), "{input}: `closed` is shown: {answer}");
        let asked = self
            .provider
            .inferences()
            .iter()
            .any(|seen| String::from_utf8_lossy(&seen.body).contains(CLOSED_MODEL));
        assert!(!asked, "{input}: `closed` was run");
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
