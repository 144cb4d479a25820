//! Clients whose connections are silent, slow, or never read.

use std::time::Duration;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, Mcplocal, McplocalOptions, OpenFiles, eventually},
    deployment::Deployment,
    model_server::{ModelServer, Reply},
    raw::{HTTP2_PREFACE, RawConnection},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

/// A configuration of an mcpd that no test here needs to reach.
const NOWHERE: &str = "server: http://127.0.0.1:9\n";

async fn is_healthy(agent: &Mcplocal) -> bool {
    let Some(mut client) = RawConnection::try_connect(agent.url()).await else { return false };
    client.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    client.status().await == Some(200)
}

fn post(token: &str, more: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{more}\r\n\r\n"
    )
}

#[tokio::test]
async fn silent_connections_do_not_lock_out_others() {
    let options = McplocalOptions { open_files: Some(OpenFiles::Hard(256)), ..McplocalOptions::default() };
    let agent = Mcplocal::start_with(NOWHERE, options).await;
    let mut silent = Vec::new();
    for wave in 0..6 {
        for kind in 0..100 {
            let Some(mut client) = RawConnection::try_connect(agent.url()).await else {
                panic!("no connection")
            };
            match kind % 3 {
                0 => {}
                1 => drop(client.send(HTTP2_PREFACE).await),
                _ => drop(client.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await),
            }
            silent.push(client);
        }
        assert!(is_healthy(&agent).await, "wave {wave}");
    }
    assert_eq!(agent.status().await["listen"], agent.url().trim_start_matches("http://"));
}

#[tokio::test]
async fn connections_without_a_request_are_closed() {
    let agent =
        Mcplocal::start(&format!("{NOWHERE}limits: {{http: {{requestHead: 500ms, idle: 500ms}}}}")).await;
    let first_bytes: [&[u8]; 3] = [b"", b"GET /healthz HTTP/1.1\r\nhost: local", HTTP2_PREFACE];
    for bytes in first_bytes {
        let mut client = RawConnection::connect(agent.url()).await;
        client.send(bytes).await;
        client.until_closed().await;
    }
    let mut idle = RawConnection::connect(agent.url()).await;
    idle.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(idle.until_closed().await.ends_with("ok\n"));
}

#[tokio::test]
async fn body_without_a_credential_is_not_requested() {
    let agent = Mcplocal::start(NOWHERE).await;
    let body = "expect: 100-continue\r\ncontent-length: 31000000";
    for token in ["", "sk-something", "mcpd_short"] {
        let mut client = RawConnection::connect(agent.url()).await;
        client.send(post(token, body)).await;
        assert_eq!(client.status().await, Some(401), "{token}");
    }
    let (mcpd, key) = (Mcpd::start().await, agent.local_key());
    agent.sign_in(&mcpd, "admin", &mcpd.admin());
    for (more, expected) in [
        ("origin: https://evil.example\r\nexpect: 100-continue\r\ncontent-length: 5", 403),
        ("host: evil.example\r\nexpect: 100-continue\r\ncontent-length: 5", 403),
    ] {
        let mut client = RawConnection::connect(agent.url()).await;
        client.send(post(&key, more)).await;
        assert_eq!(client.status().await, Some(expected), "{more}");
    }
    let mut client = RawConnection::connect(agent.url()).await;
    client.send(post(&mcpd.admin(), &format!("content-length: {}", (32 << 20) + 1))).await;
    assert_eq!(client.status().await, Some(413));
}

#[tokio::test]
async fn slow_bodies_time_out() {
    let mcpd = Mcpd::start().await;
    let limits = "limits: {http: {stall: 500ms}}";
    let agent = Mcplocal::start(&format!("server: {}\n{limits}", mcpd.url())).await;
    for (more, part) in [
        ("content-length: 31000000", "x".repeat(1_000_000)),
        ("transfer-encoding: chunked", "5\r\n{\"mod\r\n".to_owned()),
    ] {
        let mut client = RawConnection::connect(agent.url()).await;
        client.send(post(&mcpd.admin(), more)).await;
        client.send(part).await;
        assert!(client.until_closed().await.starts_with("HTTP/1.1 408 "), "{more}");
    }
    let mut client = RawConnection::connect(agent.url()).await;
    client.send(post(&mcpd.admin(), "content-length: 1000")).await;
    assert!(client.trickle(b"x", Duration::from_millis(50)).await.starts_with("HTTP/1.1 408 "));
}

#[tokio::test]
async fn unverified_callers_share_half_of_the_body_bytes() {
    let mcpd = Mcpd::start().await;
    let limits = "limits: {http: {bodyBytes: 2MiB, stall: 60s}}";
    let agent = Mcplocal::start(&format!("server: {}\n{limits}", mcpd.url())).await;
    agent.sign_in(&mcpd, "admin", &mcpd.admin());
    let mut held = RawConnection::connect(agent.url()).await;
    held.send(post(&mcpd.admin(), "content-length: 1000000")).await;
    held.send(vec![b' '; 900_000]).await;
    let status = async |token: &str| {
        let request = agent.request(Method::POST, "/v1/chat/completions", token).body(vec![b' '; 900_000]);
        request.send().await.unwrap().status()
    };
    let stranger = mcpd.user("stranger", None).await;
    eventually("the held bytes count", async || {
        (status(&stranger).await == StatusCode::TOO_MANY_REQUESTS).then_some(())
    })
    .await;
    assert_eq!(status(&agent.local_key()).await, StatusCode::BAD_REQUEST, "the user's own body is read");
}

#[tokio::test]
async fn caller_that_does_not_read_releases_the_provider() {
    // mcpd waits longer, so that the agent is the one that closes the connection.
    let config = Some("limits: {http: {stall: 60s}}\n".to_owned());
    let mcpd = Mcpd::start_with(McpdOptions { config, ..McpdOptions::default() }).await;
    let text = format!("{} ", "y".repeat(32 * 1024)).repeat(800);
    let provider = ModelServer::with_default(Reply::text(&text)).await;
    let timeouts = json!({"response": "20s", "firstToken": "20s", "idle": "20s"});
    let llm = json!({"kind": "Llm", "name": "claude", "type": "openai", "url": provider.base_url(), "model": "m",
                     "timeouts": timeouts});
    mcpd.apply(json!([llm])).await;
    let agent = Mcplocal::start(&format!("server: {}\nlimits: {{http: {{stall: 1s}}}}", mcpd.url())).await;
    let body = json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    let mut client = RawConnection::connect(agent.url()).await;
    let text = body.to_string();
    client.send(post(&mcpd.admin(), &format!("content-length: {}\r\n\r\n{text}", text.len()))).await;
    provider.wait_for_disconnects(1).await;
}

/// A stream that the local provider may go on with keeps its request until its end.
#[tokio::test]
async fn resumable_streams_leave_the_memory_for_bodies_to_others() {
    let config = "limits: {http: {bodyBytes: 2MiB}}\nfailover: {midStream: restart}\n";
    let deployment = Deployment::builder().config(config).start().await;
    deployment.mcpd.llm_with_default_timeouts("claude", &deployment.provider.base_url()).await;
    deployment.provider.set_default(Reply::text("one two").stall_after(1));
    let mut running = Vec::new();
    for bytes in [150_000; 14].into_iter().chain([700_000]) {
        let messages = json!([{"role": "user", "content": "x".repeat(bytes)}]);
        let body = json!({"model": "claude", "stream": true, "messages": messages});
        let mut answer = deployment.send(&body).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.chunk().await.unwrap().is_some());
        running.push(answer);
    }
}
