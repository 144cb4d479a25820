//! An mcpd with one Llm, and what has to hold while its store fails and afterwards.

use std::time::Duration;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, eventually},
    model_server::ModelServer,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// Longer than any of mcpd's own timeouts on its store.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

pub struct World {
    pub mcpd: Mcpd,
    pub admin: String,
    _provider: ModelServer,
    users: u32,
    refused: Vec<String>,
}

impl World {
    pub async fn with(options: McpdOptions) -> Self {
        let config =
            "limits: {writes: {perSecond: 1000, burst: 1000}}\nupstreamAddresses: {loopback: true}\n";
        let mcpd = Mcpd::start_with(McpdOptions { config: Some(config.to_owned()), ..options }).await;
        let provider = ModelServer::start().await;
        mcpd.llm("m1", &provider.base_url()).await;
        let admin = mcpd.admin();
        Self { mcpd, admin, _provider: provider, users: 0, refused: Vec::new() }
    }

    /// The status of an inference.
    pub async fn chat(&self) -> StatusCode {
        let body = json!({"model": "m1", "messages": [{"role": "user", "content": "hi"}]});
        self.send(Method::POST, "/v1/chat/completions", &body).await.0
    }

    /// Creates a user; returns the status and the user's name.
    pub async fn write(&mut self) -> (StatusCode, String) {
        self.users += 1;
        let name = format!("user-{}", self.users);
        let (status, _) = self.send(Method::POST, "/api/v1/users", &json!({"name": name})).await;
        (status, name)
    }

    /// The status and the message of `/readyz`.
    pub async fn readiness(&self) -> (StatusCode, String) {
        let (status, body) = self.send(Method::GET, "/readyz", &Value::Null).await;
        (status, body["error"]["message"].as_str().unwrap_or_default().to_owned())
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.mcpd.request(method, path, &self.admin).timeout(CLIENT_TIMEOUT);
        let answer = request.json(body).send().await.expect("an answer");
        (answer.status(), answer.json().await.unwrap_or_default())
    }

    /// Waits for `/readyz`; from then on no request may fail.
    pub async fn is_well(&mut self, when: &str) {
        eventually("readiness", async || (self.readiness().await.0 == StatusCode::OK).then_some(())).await;
        for _ in 0..4 {
            assert_eq!(self.chat().await, StatusCode::OK, "{when}: inference");
            assert_eq!(self.write().await.0, StatusCode::CREATED, "{when}: a write");
        }
        for name in self.refused.drain(..) {
            let there = self.mcpd.get(&format!("/api/v1/users/{name}"), &self.admin).await.status();
            assert_eq!(there, StatusCode::NOT_FOUND, "{when}: the refused write of `{name}` happened");
        }
    }

    /// While nothing can be recorded, every request is refused with 503, and `/readyz` gives the reason.
    pub async fn records_nothing(&mut self, when: &str, reason: &str) {
        let (status, name) = self.write().await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{when}: a write");
        assert_eq!(self.chat().await, StatusCode::SERVICE_UNAVAILABLE, "{when}: inference");
        let reason_given = eventually("a reason", async || {
            let (status, reason_given) = self.readiness().await;
            (status == StatusCode::SERVICE_UNAVAILABLE).then_some(reason_given)
        })
        .await;
        assert!(reason_given.contains(reason), "{when}: {reason_given}");
        self.refused.push(name);
    }
}
