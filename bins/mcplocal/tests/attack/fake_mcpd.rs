//! A server in mcpd's place that responds with any bytes.

use std::sync::{Arc, Mutex};

use mcpctl_testkit::{daemons::Mcplocal, deployment::openai_item, model_server::ModelServer};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// An item of `providers` that fails over for `claude`.
pub fn provider(url: &str) -> String {
    openai_item("desk", url, &["failoverFor: claude"])
}

/// An agent of a fake mcpd.
pub async fn agent_of(mcpd: &FakeMcpd, desk: &ModelServer) -> Mcplocal {
    Mcplocal::start(&format!("server: {}\nproviders:\n{}", mcpd.url, provider(&desk.base_url()))).await
}

/// A well-formed bearer that no mcpd issued; any attacker can compute one.
pub fn unknown_bearer() -> String {
    mcpctl_secret::token::mint(mcpctl_secret::token::Prefix::Mcpd).unwrap().expose().to_owned()
}

/// A response to a request for inference that fails over.
pub const OVERLOADED: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
     content-length: 34\r\nconnection: close\r\n\r\n{\"error\":{\"message\":\"overloaded\"}}";

/// mcpd's response to a probe that allows.
pub const ALLOWED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\netag: \"7\"\r\n\
     mcpctl-request-id: 0197\r\ncontent-length: 300\r\n\r\n";

/// A server with one response to probes and another one to all other requests.
pub struct FakeMcpd {
    pub url: String,
    responses: Arc<Mutex<(Vec<u8>, Vec<u8>)>>,
    accepting: JoinHandle<()>,
}

impl FakeMcpd {
    pub async fn responding(probe: &str, other: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let responses = Arc::new(Mutex::new((probe.into(), other.into())));
        let now = Arc::clone(&responses);
        let accepting = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(connection, Arc::clone(&now)));
            }
        });
        Self { url, responses, accepting }
    }

    pub fn set(&self, probe: &str, other: &str) {
        *self.responses.lock().unwrap() = (probe.into(), other.into());
    }
}

impl Drop for FakeMcpd {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut connection: TcpStream, responses: Arc<Mutex<(Vec<u8>, Vec<u8>)>>) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    while !is_whole(&request) {
        match connection.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return,
        }
    }
    let (probe, other) = responses.lock().unwrap().clone();
    let response = if request.starts_with(b"HEAD ") { probe } else { other };
    let _ = connection.write_all(&response).await;
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

/// The body of a short chat.
pub fn question() -> Value {
    json!({"model": "claude", "messages": [{"role": "user", "content": "Hi"}]})
}
