//! Compressed requests are decoded at the agent, and go on to mcpd and to local providers as plain ones.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use mcpctl_testkit::{
    daemons::{Mcpd, Mcplocal},
    model_server::{ModelServer, Reply},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

struct World {
    _mcpd: Mcpd,
    provider: ModelServer,
    desk: ModelServer,
    agent: Mcplocal,
    alice: String,
}

impl World {
    async fn new() -> Self {
        let mcpd = Mcpd::start().await;
        let provider = ModelServer::with_default(Reply::text("from the centre")).await;
        let desk = ModelServer::with_default(Reply::text("from the desk")).await;
        mcpd.llm("gpt", &provider.base_url()).await;
        let alice = mcpd.user("alice", Some("llm-user")).await;
        let agent = Mcplocal::start(&format!(
            "server: {}\nproviders:\n  - name: desk\n    type: openai\n    url: {}\n    model: m\n",
            mcpd.url(),
            desk.base_url(),
        ))
        .await;
        agent.sign_in(&mcpd, "alice", &alice);
        Self { _mcpd: mcpd, provider, desk, agent, alice }
    }

    async fn send(&self, bearer: &str, coding: &str, body: Vec<u8>) -> Response {
        let request = self.agent.request(Method::POST, "/v1/chat/completions", bearer);
        let request = request.header("content-encoding", coding).header("content-type", "application/json");
        request.body(body).send().await.unwrap()
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

#[tokio::test]
async fn a_compressed_request_goes_on_decoded() {
    let world = World::new().await;
    let key = world.agent.local_key();
    for (bearer, model, server) in [(&world.alice, "gpt", &world.provider), (&key, "local/desk", &world.desk)]
    {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let text = body.to_string().into_bytes();
        for (coding, encoded) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
            let answer = world.send(bearer, coding, encoded).await;
            assert_eq!(answer.status(), StatusCode::OK, "{coding} {model}");
            let sent = server.inferences().pop().unwrap();
            assert_eq!(
                (sent.header("content-encoding"), &sent.json()["messages"]),
                (None, &body["messages"])
            );
        }
    }
}

#[tokio::test]
async fn bombs_and_unknown_codings_are_refused_by_the_agent() {
    let world = World::new().await;
    let answer = world.send(&world.alice, "br", b"x".to_vec()).await;
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.headers()["accept-encoding"], "gzip, deflate, zstd");
    let body: Value = answer.json().await.unwrap();
    assert!(body["error"]["message"].as_str().unwrap().contains("`Content-Encoding: br`"), "{body}");

    let spaces = vec![b' '; 64 << 20];
    for (coding, bomb) in [("gzip", gzip(&spaces)), ("zstd", zstd(&spaces))] {
        let answer = world.send(&world.alice, coding, bomb).await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{coding}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["message"].as_str().unwrap().contains("32.0 MiB"), "{body}");
    }
    assert!(world.provider.inferences().is_empty());
}
