//! The stage: a centre whose provider is gone, an agent with one real engine, and a user whom the engine may serve.

use std::{path::PathBuf, time::Duration};

use mcpctl_testkit::daemons::{Mcpd, Mcplocal, within};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::family::Family;

/// A real model server, and how a test knows it.
#[derive(Clone)]
pub struct Real {
    /// `type` of its provider.
    pub kind: &'static str,
    /// The program, and the key of the configuration that names it or where it is.
    pub program: PathBuf,
    pub named_by: &'static str,
    pub model: PathBuf,
    /// Further keys of the provider.
    pub keys: String,
    /// Its own count of running requests, in `/metrics`.
    pub gauge: &'static str,
    /// How long a start may take.
    pub patience: Duration,
}

/// A path that `cargo xtask test` gives.
pub fn path(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: `cargo xtask test` fetches the engine and sets it"))
        .into()
}

pub struct World<'a> {
    pub real: &'a Real,
    pub mcpd: Mcpd,
    pub agent: Mcplocal,
    pub alice: String,
    /// For what a story needs.
    pub dir: TempDir,
}

impl<'a> World<'a> {
    pub async fn new(real: &'a Real, keys: &str) -> Self {
        let mcpd = Mcpd::start().await;
        let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        mcpd.llm("claude", &format!("http://{nowhere}/v1")).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let agent = Mcplocal::start(&format!(
            "server: {}\nproviders:\n  - name: desk\n    type: {}\n    {}: {}\n    model: {}\n    failoverFor: claude\n    {}\n    {keys}\n",
            mcpd.url(),
            real.kind,
            real.named_by,
            real.program.display(),
            real.model.display(),
            real.keys,
        ))
        .await;
        agent.sign_in(&mcpd, "alice", &alice);
        Self { real, mcpd, agent, alice, dir: tempfile::tempdir().unwrap() }
    }

    /// Asks the central Llm, whose provider is gone, for so many tokens.
    pub async fn ask(&self, stream: bool, tokens: u32) -> Response {
        let body = json!({
            "model": "claude", "stream": stream, "max_tokens": tokens, "ignore_eos": true,
            "messages": [{"role": "user", "content": "Tell me a story."}],
        });
        let request = self.agent.request(Method::POST, "/v1/chat/completions", &self.alice).json(&body);
        request.send().await.unwrap()
    }

    /// Has it start, and waits until it is ready.
    pub async fn start(&self) -> Family {
        let answer = self.control("start").await;
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
        self.family().await
    }

    pub async fn control(&self, action: &str) -> Response {
        let path = format!("/api/v1/engines/desk/{action}");
        self.agent.request(Method::POST, &path, &self.agent.local_key()).send().await.unwrap()
    }

    pub async fn engine(&self) -> Value {
        self.agent.status().await["providers"][0]["engine"].clone()
    }

    /// The processes of its start, as soon as there are some.
    pub async fn family(&self) -> Family {
        let pid = within(self.real.patience, "a process", async || self.engine().await["pid"].as_u64()).await;
        Family::of(u32::try_from(pid).unwrap())
    }

    pub async fn until(&self, state: &str) {
        within(self.real.patience, state, async || (self.engine().await["state"] == state).then_some(()))
            .await;
    }

    /// Requests that run on it, by its own count.
    pub async fn running(&self, family: &Family) -> f64 {
        let (client, base) = self.around().await;
        let answer = client.get(format!("{base}/metrics")).bearer_auth(&family.key);
        let text = answer.send().await.unwrap().text().await.unwrap();
        let line = text.lines().find(|line| line.starts_with(self.real.gauge)).expect("its count");
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// How the engine is reached without the agent: by its socket or its port.
    async fn around(&self) -> (reqwest::Client, String) {
        let (engine, builder) = (self.engine().await, reqwest::Client::builder().no_proxy());
        match engine["socket"].as_str() {
            Some(socket) => (builder.unix_socket(socket).build().unwrap(), "http://localhost".to_owned()),
            None => (builder.build().unwrap(), format!("http://127.0.0.1:{}", engine["port"])),
        }
    }

    /// What the engine says to somebody who comes around the agent.
    pub async fn knock(&self, path: &str, key: Option<&str>) -> StatusCode {
        let (client, base) = self.around().await;
        let request = client.post(format!("{base}{path}")).body("{}");
        let request = key.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
        request.send().await.unwrap().status()
    }

    pub async fn log(&self) -> String {
        let path = "/api/v1/engines/desk/logs";
        let answer = self.agent.request(Method::GET, path, &self.agent.local_key()).send().await.unwrap();
        answer.text().await.unwrap()
    }
}

/// No process of it is left, and waits for that no longer than a stop may take.
pub async fn gone(family: &Family) {
    within(Duration::from_secs(30), "nothing is left", async || family.members().is_empty().then_some(()))
        .await;
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
