//! Watches: what a caller who does not read is shown later, and how many may be open.

use std::time::Duration;

use mcpctl_testkit::daemons::{Mcpd, McpdOptions, eventually};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// More than the sockets of both sides hold, so that a watch over it stalls.
const HISTORY: usize = 500;
const SIZE: usize = 60_000;

async fn with_history() -> (Mcpd, String) {
    let mcpd = Mcpd::start().await;
    let bob = mcpd.user("bob", Some("llm-user")).await;
    for batch in 0..HISTORY / 50 {
        let llms: Vec<Value> = (0..50).map(|n| llm(&format!("l{batch}-{n}"), &"x".repeat(SIZE))).collect();
        mcpd.apply(Value::Array(llms)).await;
    }
    (mcpd, bob)
}

fn llm(name: &str, description: &str) -> Value {
    json!({"kind": "Llm", "name": name, "type": "openai", "url": "http://127.0.0.1:9", "model": "m",
           "description": description})
}

/// A watch over everything, of a caller who has read the head alone, with as little room for the rest as can be.
async fn stalled(mcpd: &Mcpd, bearer: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = mcpd.url().trim_start_matches("http://").parse().unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let request = format!(
        "GET /api/v1/watch?since=0&kinds=llms HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {bearer}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    // The first events are there: it has begun to send.
    let mut some = vec![0; SIZE];
    stream.read_exact(&mut some).await.unwrap();
    stream
}

/// Everything that is sent from now on, until the watch ends or is silent.
async fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let mut piece = vec![0; 1 << 20];
    while let Ok(Ok(read @ 1..)) = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut piece)).await
    {
        all.extend_from_slice(&piece[..read]);
    }
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test]
async fn stalled_watch_shows_nothing_made_after_revocation() {
    let (mcpd, bob) = with_history().await;
    let stream = stalled(&mcpd, &bob).await;
    let gone = mcpd.delete("/api/v1/rolebindings/bob-llm-user", &mcpd.admin()).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    mcpd.apply(json!([llm("after", "MADE AFTER THE REVOCATION")])).await;
    let shown = rest(stream).await;
    assert!(!shown.contains("MADE AFTER") && !shown.contains("\"after\""));
    let events = shown.matches("event: put").count();
    assert!(events < HISTORY / 2, "{events} events were sent after the revocation");
}

#[tokio::test]
async fn a_stalled_watch_ends_with_its_token() {
    let (mcpd, bob) = with_history().await;
    let stream = stalled(&mcpd, &bob).await;
    let gone = mcpd.delete("/api/v1/tokens/bob-token", &mcpd.admin()).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
    mcpd.apply(json!([llm("after", "MADE AFTER THE REVOCATION")])).await;
    let shown = rest(stream).await;
    assert!(!shown.contains("MADE AFTER"));
    assert!(shown.matches("event: put").count() < HISTORY / 2);
    assert!(shown.ends_with("0\r\n\r\n"), "the watch has ended");
}

#[tokio::test]
async fn watches_are_bounded_per_principal_and_in_total() {
    let config = "limits:\n  watches:\n    perPrincipal: 2\n    total: 3\n".to_owned();
    let mcpd = Mcpd::start_with(McpdOptions { config: Some(config), ..McpdOptions::default() }).await;
    let (alice, bob) = (mcpd.user("alice", Some("llm-user")).await, mcpd.user("bob", None).await);
    let watch = async |bearer: &str| mcpd.get("/api/v1/watch", bearer).await;
    let first = watch(&alice).await;
    let _second = watch(&alice).await;
    let refused = watch(&alice).await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["error"]["code"], "too_many_watches");
    let _third = watch(&bob).await;
    assert_eq!(watch(&bob).await.status(), StatusCode::TOO_MANY_REQUESTS, "three in all");
    assert_eq!(mcpd.get("/api/v1/llms", &alice).await.status(), StatusCode::OK, "the rest goes on");
    drop(first);
    eventually("a place is free again", async || {
        (watch(&bob).await.status() == StatusCode::OK).then_some(())
    })
    .await;
}
