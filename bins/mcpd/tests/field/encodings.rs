//! Compressed requests are decoded within the limits, or refused with the name of their coding.

use std::io::Write as _;

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use mcpctl_testkit::{central::Central, process};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};

/// The limit of an inference request's body, in bytes.
const LIMIT: usize = 32 << 20;

async fn send(central: &Central, path: &str, bearer: &str, coding: &str, body: Vec<u8>) -> Response {
    let request = central.mcpd.request(Method::POST, path, bearer).header("content-encoding", coding);
    request.header("content-type", "application/json").body(body).send().await.unwrap()
}

async fn chat(central: &Central, coding: &str, body: Vec<u8>) -> Response {
    send(central, "/v1/chat/completions", &central.alice, coding, body).await
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

#[tokio::test]
async fn provider_gets_the_content_of_a_compressed_request() {
    let central = Central::start(&["gpt"]).await;
    let body = json!({"model": "gpt", "messages": [{"role": "user", "content": "hi ".repeat(1000)}]});
    let text = body.to_string().into_bytes();
    for (coding, encoded) in
        [("gzip", gzip(&text)), ("deflate", zlib(&text)), ("zstd", zstd(&text)), ("identity", text.clone())]
    {
        for path in ["/v1/chat/completions", "/v1/completions", "/api/v1/llms/gpt/infer"] {
            let answer = send(&central, path, &central.alice, coding, encoded.clone()).await;
            assert_eq!(answer.status(), StatusCode::OK, "{coding} {path}");
            let sent = central.provider.inferences().pop().unwrap();
            assert_eq!(sent.json()["messages"], body["messages"], "{coding}");
            assert_eq!(
                (sent.header("content-encoding"), sent.json()["model"].clone()),
                (None, json!("upstream-model"))
            );
        }
    }
    // And so are documents.
    let user = gzip(br#"{"name":"packed"}"#);
    let made = send(&central, "/api/v1/users", &central.mcpd.admin(), "gzip", user).await;
    assert_eq!(made.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_coding_that_is_not_decoded_is_named() {
    let central = Central::start(&["gpt"]).await;
    for coding in ["br", "compress", "aws-chunked", "gzip, gzip", "gzip, zstd"] {
        let answer = chat(&central, coding, gzip(b"{}")).await;
        assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE, "{coding}");
        assert_eq!(answer.headers()["accept-encoding"], "gzip, deflate, zstd");
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["message"].as_str().unwrap().contains(coding), "{body}");
        assert!(body["error"]["hint"].is_string(), "{body}");
    }
    for (coding, body) in [("gzip", &b"{}"[..]), ("zstd", b"\x28\xb5\x2f\xfd"), ("deflate", b"x")] {
        let answer = chat(&central, coding, body.to_vec()).await;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{coding}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["error"]["message"], format!("the body is not valid {coding}"));
    }
    assert!(central.provider.inferences().is_empty());
}

#[tokio::test]
async fn bombs_are_refused_and_cost_no_more_than_the_limit() {
    let central = Central::start(&["gpt"]).await;
    let zeros = vec![b' '; 256 << 20];
    let bombs = [("gzip", gzip(&zeros)), ("zstd", zstd(&zeros))];
    drop(zeros);
    let before = process::resident_bytes(central.mcpd.pid());
    for (coding, bomb) in bombs {
        assert!(bomb.len() < LIMIT, "{coding}: what is sent is within the limit: {}", bomb.len());
        let answer = chat(&central, coding, bomb).await;
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{coding}");
        let body: Value = answer.json().await.unwrap();
        assert!(body["error"]["message"].as_str().unwrap().contains("32.0 MiB"), "{body}");
    }
    let grown = process::peak_resident_bytes(central.mcpd.pid()).saturating_sub(before);
    // The body as it grew, twice where it moved, and the decoder.
    assert!(grown < 4 * LIMIT as u64, "the daemon grew by {} MiB", grown >> 20);
    assert!(central.provider.inferences().is_empty());
}

#[tokio::test]
async fn nothing_is_decoded_before_authentication() {
    let central = Central::start(&["gpt"]).await;
    let answer = send(&central, "/v1/chat/completions", "no-token", "gzip", b"no gzip".to_vec()).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let login = gzip(br#"{"name":"admin","password":"x"}"#);
    let url = format!("{}/api/v1/auth/login", central.mcpd.url());
    let request = reqwest::Client::builder().no_proxy().build().unwrap().post(url);
    let request = request.header("content-encoding", "gzip").header("content-type", "application/json");
    let answer = request.body(login).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(answer.headers()["accept-encoding"], "identity");
}
