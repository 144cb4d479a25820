//! A deployment whose agent has one real engine, which fails over for the Llm of an unreachable provider.

use std::{path::PathBuf, time::Duration};

use mcpctl_testkit::{daemons::within, deployment::Deployment};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::family::Family;

/// A real model server, and what a test has to know of it.
#[derive(Clone)]
pub struct Real {
    /// The `type` of its provider.
    pub kind: &'static str,
    /// The program, or its environment, and the key of the configuration that names it.
    pub program: PathBuf,
    pub program_key: &'static str,
    pub model: PathBuf,
    /// Further lines of the provider.
    pub keys: String,
    /// The metric of running requests.
    pub gauge: &'static str,
    /// How long a start may take.
    pub start_timeout: Duration,
}

/// A path from a variable that `cargo xtask test` sets.
pub fn path(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: `cargo xtask test` fetches the engine and sets it"))
        .into()
}

pub struct Setup<'a> {
    pub real: &'a Real,
    pub deployment: Deployment,
}

impl<'a> Setup<'a> {
    /// `keys` are further lines of the provider.
    pub async fn new(real: &'a Real, keys: &str) -> Self {
        let provider = format!(
            "  - name: desk\n    type: {}\n    {}: {}\n    model: {}\n    failoverFor: claude\n    {}\n    {keys}\n",
            real.kind,
            real.program_key,
            real.program.display(),
            real.model.display(),
            real.keys,
        );
        let mut deployment = Deployment::builder().providers(&provider).signed_in().start().await;
        deployment.provider.refuse().await;
        Self { real, deployment }
    }

    /// Sends a chat for that many tokens to the Llm, whose provider is unreachable.
    pub async fn chat(&self, stream: bool, tokens: u32) -> Response {
        let body = json!({
            "model": "claude", "stream": stream, "max_tokens": tokens, "ignore_eos": true,
            "messages": [{"role": "user", "content": "Tell me a story."}],
        });
        self.deployment.send(&body).await
    }

    /// Starts the engine and waits until it is ready.
    pub async fn start(&self) -> Family {
        self.deployment.start_engine("desk").await;
        self.family().await
    }

    pub async fn control(&self, action: &str) -> Response {
        self.deployment.control("desk", action).await
    }

    pub async fn engine(&self) -> Value {
        self.deployment.engine("desk").await
    }

    /// The processes of the engine's start, once there are some.
    pub async fn family(&self) -> Family {
        let pid = async || self.engine().await["pid"].as_u64();
        let pid = within(self.real.start_timeout, "the engine has a process", pid).await;
        Family::of(u32::try_from(pid).unwrap())
    }

    /// Waits until the engine is in a state.
    pub async fn engine_is(&self, state: &str) {
        let reached = async || (self.engine().await["state"] == state).then_some(());
        within(self.real.start_timeout, state, reached).await;
    }

    /// The number of running requests by the engine's own metric.
    pub async fn running(&self, family: &Family) -> f64 {
        let (client, base) = self.engine_client().await;
        let answer = client.get(format!("{base}/metrics")).bearer_auth(&family.key);
        let text = answer.send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(self.real.gauge)).expect("the metric");
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// A client that reaches the engine past the agent, by its socket or its port, and the engine's base URL.
    async fn engine_client(&self) -> (reqwest::Client, String) {
        let (engine, builder) = (self.engine().await, reqwest::Client::builder().no_proxy());
        match engine["socket"].as_str() {
            Some(socket) => (builder.unix_socket(socket).build().unwrap(), "http://localhost".to_owned()),
            None => (builder.build().unwrap(), format!("http://127.0.0.1:{}", engine["port"])),
        }
    }

    /// The engine's status for a request past the agent.
    pub async fn post_to_engine(&self, path: &str, key: Option<&str>) -> StatusCode {
        let (client, base) = self.engine_client().await;
        let request = client.post(format!("{base}{path}")).body("{}");
        let request = key.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        request.send().await.unwrap().status()
    }

    pub async fn log(&self) -> String {
        let agent = &self.deployment.agent;
        let request = agent.request(Method::GET, "/api/v1/engines/desk/logs", &agent.local_key());
        request.send().await.unwrap().text().await.unwrap()
    }
}

/// Waits until no process of a start is left, no longer than a stop may take.
pub async fn gone(family: &Family) {
    let empty = async || family.members().is_empty().then_some(());
    within(Duration::from_secs(30), "no process is left", empty).await;
}

/// Reads until there is content.
pub async fn first_content(answer: &mut Response) {
    loop {
        let chunk = answer.chunk().await.unwrap().expect("content before the end");
        if String::from_utf8_lossy(&chunk).contains("\"content\":\"") {
            return;
        }
    }
}
