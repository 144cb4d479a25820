//! What the attacks on answers, journal and probe have in common: a real centre whose inference is gone, and a played one that
//! answers with any bytes.

use std::sync::{Arc, Mutex};

use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{ModelServer, Reply},
};
use reqwest::Response;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A real mcpd, an agent whose way to inference leads nowhere, a local model, and a user who may use it.
pub struct World {
    pub mcpd: Mcpd,
    pub desk: ModelServer,
    pub agent: Mcplocal,
    pub alice: String,
}

impl World {
    /// `more` goes to the top of the agent's configuration.
    pub async fn cut(more: &str) -> Self {
        let mcpd = Mcpd::start().await;
        mcpd.llm("claude", "http://127.0.0.1:1/v1").await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        let agent = Mcplocal::start(&Self::config(&mcpd, &desk, more)).await;
        Self { mcpd, desk, agent, alice }
    }

    pub fn config(mcpd: &Mcpd, desk: &ModelServer, more: &str) -> String {
        let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (server, desk) = (mcpd.url(), desk.base_url());
        format!("server: {server}\ninference: http://{nowhere}\n{more}\nproviders:\n{}", provider(&desk))
    }

    pub async fn chat(&self) -> Response {
        self.agent.chat("claude", &self.alice, false).await
    }
}

/// A local provider that stands in for `claude`.
pub fn provider(url: &str) -> String {
    format!("  - {{name: desk, type: openai, url: '{url}', model: m, failoverFor: claude}}\n")
}

/// An agent of a played centre.
pub async fn agent_of(centre: &Centre, desk: &ModelServer) -> Mcplocal {
    Mcplocal::start(&format!("server: {}\nproviders:\n{}", centre.url, provider(&desk.base_url()))).await
}

/// A bearer of the right shape that no mcpd knows; anybody can compute one.
pub fn made_up() -> String {
    mcpctl_secret::token::mint(mcpctl_secret::token::Prefix::Mcpd).unwrap().expose().to_owned()
}

pub fn header<'a>(answer: &'a Response, name: &str) -> Option<&'a str> {
    answer.headers().get(name).map(|value| value.to_str().unwrap())
}

pub async fn text(answer: Response) -> String {
    let body: Value = answer.json().await.unwrap();
    body["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned()
}

/// An inference answer that fails over.
pub const OVERLOADED: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
     content-length: 34\r\nconnection: close\r\n\r\n{\"error\":{\"message\":\"overloaded\"}}";

/// A probe answer as mcpd writes it.
pub const ALLOWED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: \"7\"\r\n\
     mcpctl-request-id: 0197\r\ncontent-length: 300\r\n\r\n";

/// What answers at mcpd's address: these bytes to a probe, those to all else.
pub struct Centre {
    pub url: String,
    answers: Arc<Mutex<(Vec<u8>, Vec<u8>)>>,
    accepting: JoinHandle<()>,
}

impl Centre {
    pub async fn answering(probe: &str, other: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new((probe.into(), other.into())));
        let now = Arc::clone(&answers);
        let accepting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&now)));
            }
        });
        Self { url, answers, accepting }
    }

    pub fn set(&self, probe: &str, other: &str) {
        *self.answers.lock().unwrap() = (probe.into(), other.into());
    }
}

impl Drop for Centre {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut connection: TcpStream, answers: Arc<Mutex<(Vec<u8>, Vec<u8>)>>) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&request) {
        match connection.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let (probe, other) = answers.lock().unwrap().clone();
    let answer = if request.starts_with(b"HEAD ") { probe } else { other };
    let _ = connection.write_all(&answer).await;
    let _ = connection.shutdown().await;
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// The body of a short question.
pub fn question() -> Value {
    json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}]})
}
