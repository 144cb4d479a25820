//! Compressed requests: the agent decodes them and forwards plain ones to mcpd and to local providers.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use mcpctl_testkit::deployment::Deployment;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

async fn send(deployment: &Deployment, bearer: &str, coding: &str, body: Vec<u8>) -> Response {
    let request = deployment.agent.request(Method::POST, "/v1/chat/completions", bearer);
    let request = request.header("content-encoding", coding).header("content-type", "application/json");
    request.body(body).send().await.unwrap()
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
async fn compressed_request_is_forwarded_decoded() {
    let deployment = Deployment::builder().signed_in().start().await;
    let key = deployment.agent.local_key();
    for (bearer, model, upstream) in
        [(&deployment.alice, "claude", &deployment.provider), (&key, "local/desk", &deployment.desk)]
    {
        let body = json!({"model": model, "messages": [{"role": "user", "content": "hi"}]});
        let text = body.to_string().into_bytes();
        for (coding, encoded) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
            let answer = send(&deployment, bearer, coding, encoded).await;
            assert_eq!(answer.status(), StatusCode::OK, "{coding} {model}");
            let sent = upstream.inferences().pop().unwrap();
            assert_eq!(
                (sent.header("content-encoding"), &sent.json()["messages"]),
                (None, &body["messages"])
            );
        }
    }
}

#[tokio::test]
async fn bombs_and_unknown_codings_are_rejected() {
    let deployment = Deployment::builder().signed_in().start().await;
    let answer = send(&deployment, &deployment.alice, "br", b"x".to_vec()).await;
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.headers()["accept-encoding"], "gzip, deflate, zstd");
    let body: Value = answer.json().await.unwrap();
    assert!(body["error"]["message"].as_str().unwrap().contains("`Content-Encoding: br`"), "{body}");

    let spaces = vec![b' '; 64 << 20];
    for (coding, bomb) in [("gzip", gzip(&spaces)), ("zstd", zstd(&spaces))] {
        let answer = send(&deployment, &deployment.alice, coding, bomb).await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{coding}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["message"].as_str().unwrap().contains("32.0 MiB"), "{body}");
    }
    assert!(deployment.provider.inferences().is_empty());
}
