//! Connections that are silent, slow, or never read.

use std::time::Duration;

use mcpctl_testkit::{
    daemons::{Mcpd, McpdOptions, OpenFiles, eventually},
    model_server::{ModelServer, Reply},
    raw::{HTTP2_PREFACE, RawConnection},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

async fn mcpd_with(limits: &str) -> Mcpd {
    let config = Some(format!("limits: {{http: {limits}}}\n"));
    Mcpd::start_with(McpdOptions { config, ..McpdOptions::default() }).await
}

async fn is_healthy(mcpd: &Mcpd) -> bool {
    let Some(mut client) = RawConnection::try_connect(mcpd.url()).await else { return false };
    client.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    client.status().await == Some(200)
}

fn request(path: &str, token: &str, more: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{more}\r\n\r\n")
}

#[tokio::test]
async fn silent_connections_do_not_lock_out_others() {
    let open_files = Some(OpenFiles::Hard(256));
    let mcpd = Mcpd::start_with(McpdOptions { open_files, ..McpdOptions::default() }).await;
    let mut watcher = RawConnection::connect(mcpd.url()).await;
    let watch = format!(
        "GET /api/v1/watch HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\r\n",
        mcpd.admin()
    );
    watcher.send(watch).await;
    assert_eq!(watcher.status().await, Some(200));

    let mut silent = Vec::new();
    for wave in 0..6 {
        for kind in 0..100 {
            let Some(mut client) = RawConnection::try_connect(mcpd.url()).await else {
                panic!("no connection")
            };
            match kind % 4 {
                0 => {}
                1 => drop(client.send("GET /healthz HTTP/1.1\r\nhost: local").await),
                2 => drop(client.send(HTTP2_PREFACE).await),
                _ => drop(client.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await),
            }
            silent.push(client);
        }
        assert!(is_healthy(&mcpd).await, "wave {wave}");
        assert_eq!(mcpd.get("/api/v1/auth/whoami", &mcpd.admin()).await.status(), StatusCode::OK);
    }
    mcpd.apply(json!([{"kind": "User", "name": "seen-by-the-watcher"}])).await;
    let event = watcher.until("seen-by-the-watcher").await;
    assert!(event.is_some(), "a connection with an authenticated request in it survives");
}

#[tokio::test]
async fn the_soft_limit_of_open_files_is_raised() {
    let open_files = Some(OpenFiles::Soft(200));
    let mcpd = Mcpd::start_with(McpdOptions { open_files, ..McpdOptions::default() }).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", mcpd.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<_> = line.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert!(numbers.len() == 2 && numbers[0] == numbers[1], "{line}");
}

#[tokio::test]
async fn connections_without_a_request_are_closed() {
    let mcpd = mcpd_with("{requestHead: 500ms, idle: 500ms}").await;
    let first_bytes: [&[u8]; 4] =
        [b"", b"GET /healthz HTTP/1.1\r\nhost: local", b"PRI * HTTP/2.0\r\n", HTTP2_PREFACE];
    for bytes in first_bytes {
        let mut client = RawConnection::connect(mcpd.url()).await;
        client.send(bytes).await;
        client.until_closed().await;
    }
    let mut trickle = RawConnection::connect(mcpd.url()).await;
    trickle.send("GET /healthz HTTP/1.1\r\nx: ").await;
    trickle.trickle(b"x", Duration::from_millis(50)).await;

    let mut idle = RawConnection::connect(mcpd.url()).await;
    idle.send("GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(idle.until_closed().await.ends_with("ok\n"));
}

#[tokio::test]
async fn no_byte_of_a_strangers_body_is_asked_for() {
    let mcpd = Mcpd::start().await;
    let unknown = format!("mcpd_{}", "a".repeat(43));
    for path in ["/v1/chat/completions", "/api/v1/apply", "/api/v1/llms", "/api/v1/llms/x/infer"] {
        for token in ["", unknown.as_str()] {
            let mut client = RawConnection::connect(mcpd.url()).await;
            client.send(request(path, token, "expect: 100-continue\r\ncontent-length: 1000000")).await;
            assert_eq!(client.status().await, Some(401), "{path}");
        }
    }
    // The login is for strangers, so that its body is small.
    let json = "content-type: application/json\r\nexpect: 100-continue\r\n";
    let mut client = RawConnection::connect(mcpd.url()).await;
    client.send(request("/api/v1/auth/login", "", &format!("{json}content-length: 8193"))).await;
    assert_eq!(client.status().await, Some(413));
    let mut client = RawConnection::connect(mcpd.url()).await;
    client.send(request("/api/v1/auth/login", "", &format!("{json}content-length: 8192"))).await;
    assert_eq!(client.status().await, Some(100));
}

#[tokio::test]
async fn too_long_body_is_refused_by_its_declared_length() {
    let mcpd = Mcpd::start().await;
    for (path, length) in [("/v1/chat/completions", (32 << 20) + 1), ("/api/v1/apply", (4 << 20) + 1)] {
        let mut client = RawConnection::connect(mcpd.url()).await;
        let declared = format!("content-length: {length}");
        client.send(request(path, &mcpd.admin(), &declared)).await;
        assert_eq!(client.status().await, Some(413), "{path}");
    }
    // A client that sends it all the same still reads why.
    let answer = mcpd.request(Method::POST, "/api/v1/apply", &mcpd.admin()).body(vec![b' '; 5 << 20]);
    let answer = answer.send().await.expect("an answer, not a reset");
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn bodies_that_arrive_too_slowly_are_given_up() {
    let mcpd = mcpd_with("{stall: 500ms, rate: 1KiB, bodyTime: 1h}").await;
    for (path, more, part) in [
        ("/v1/chat/completions", "content-length: 1000000", "x".repeat(500_000)),
        ("/v1/chat/completions", "transfer-encoding: chunked", "a\r\n0123456789\r\n".to_owned()),
        ("/api/v1/apply", "content-length: 2", "[".to_owned()),
        ("/api/v1/auth/login", "content-type: application/json\r\ncontent-length: 8000", "{".to_owned()),
    ] {
        let mut client = RawConnection::connect(mcpd.url()).await;
        client.send(request(path, &mcpd.admin(), more)).await;
        client.send(part).await;
        assert!(client.until_closed().await.starts_with("HTTP/1.1 408 "), "{path}");
    }

    // Bytes come all the time, so that it is this limit and no other.
    for (what, limits, piece) in [
        ("below the least rate", "{stall: 500ms, rate: 1KiB, bodyTime: 1h}", 1),
        ("above it, and for too long", "{stall: 5m, rate: 1B, bodyTime: 2s}", 40),
    ] {
        let mcpd = mcpd_with(limits).await;
        let mut client = RawConnection::connect(mcpd.url()).await;
        client.send(request("/v1/chat/completions", &mcpd.admin(), "content-length: 30000000")).await;
        let answer = client.trickle(&vec![b'x'; piece], Duration::from_millis(20)).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{what}: {answer}");
    }
}

#[tokio::test]
async fn body_bytes_in_flight_are_bounded() {
    let mcpd = mcpd_with("{bodyBytes: 2MiB, stall: 60s}").await;
    let alice = mcpd.user("alice", None).await;
    let body = |length| vec![b' '; length];
    // A body that is held, and an answer of this status to another one. Of two that arrive together either may be refused,
    // so a held one is sent again until it was the first. The other is so small that it is refused only when the held one
    // has all its memory: were both large, each could be refused for the other's sake, and nothing would be held.
    let refused_beside_held = async |holder: &str, other: &str, status: StatusCode| {
        eventually("a body is refused beside a held one", async || {
            let mut held = RawConnection::connect(mcpd.url()).await;
            held.send(request("/api/v1/apply", holder, "content-length: 1000000")).await;
            held.send(body(900_000)).await;
            for _ in 0..20 {
                let request = mcpd.request(Method::POST, "/api/v1/apply", other).body(body(100_000));
                let answer = request.send().await.unwrap();
                if answer.status() == status {
                    return Some((held, answer));
                }
            }
            None
        })
        .await
    };
    let (held, busy) = refused_beside_held(&mcpd.admin(), &mcpd.admin(), StatusCode::TOO_MANY_REQUESTS).await;
    assert!(busy.headers().contains_key("retry-after"));
    let answer =
        mcpd.request(Method::POST, "/api/v1/apply", &alice).body(body(900_000)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "another caller's body is read");

    let bob = mcpd.user("bob", None).await;
    let (second, full) = refused_beside_held(&alice, &bob, StatusCode::SERVICE_UNAVAILABLE).await;
    assert!(full.headers().contains_key("retry-after"));
    drop((held, second));
    eventually("they are free again", async || {
        let answer =
            mcpd.request(Method::POST, "/api/v1/apply", &bob).body(body(900_000)).send().await.unwrap();
        (answer.status() == StatusCode::BAD_REQUEST).then_some(())
    })
    .await;
}

/// Far more than all buffers on the way hold.
fn endless() -> Reply {
    Reply::text(&format!("{} ", "y".repeat(32 * 1024)).repeat(400))
}

#[tokio::test]
async fn callers_that_do_not_read_release_their_provider() {
    let mcpd = mcpd_with("{stall: 1s}").await;
    let provider = ModelServer::with_default(endless()).await;
    let timeouts = json!({"response": "20s", "firstToken": "20s", "idle": "20s"});
    let llm = json!({"kind": "Llm", "name": "claude", "type": "openai", "url": provider.base_url(), "model": "m",
                     "timeouts": timeouts});
    mcpd.apply(json!([llm])).await;
    let body = json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    let text = body.to_string();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = RawConnection::connect(mcpd.url()).await;
        let more = format!("content-length: {}\r\n\r\n{text}", text.len());
        client.send(request("/v1/chat/completions", &mcpd.admin(), &more)).await;
        held.push(client);
    }
    // A flow-control window that is never opened, on a connection that stays good for others.
    let http2 = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .http2_initial_stream_window_size(65_535)
        .build()
        .unwrap();
    let url = format!("{}/v1/chat/completions", mcpd.url());
    let unread = http2.post(url).bearer_auth(mcpd.admin()).json(&body).send().await.unwrap();
    assert_eq!(unread.status(), StatusCode::OK);
    provider.wait_for_disconnects(3).await;
    let health = http2.get(format!("{}/healthz", mcpd.url())).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    assert!(unread.bytes().await.is_err(), "what was cut does not look complete");
}

#[tokio::test]
async fn readers_of_a_stream_that_trickles_are_not_cut() {
    let mcpd = mcpd_with("{stall: 200ms, idle: 200ms, requestHead: 200ms}").await;
    let provider = ModelServer::with_default(Reply::text("one two three").pace(Duration::from_secs(1))).await;
    mcpd.llm("claude", &provider.base_url()).await;
    let body = json!({"model": "claude", "stream": true, "messages": [{"role": "user", "content": "Hi"}]});
    let answer = mcpd.post("/v1/chat/completions", &mcpd.admin(), &body).await;
    assert!(answer.text().await.unwrap().trim_end().ends_with("[DONE]"));
}

#[tokio::test]
async fn slowly_read_large_answer_arrives_whole() {
    let mcpd = mcpd_with("{stall: 500ms, idle: 300ms}").await;
    let mut client = RawConnection::connect(mcpd.url()).await;
    client.send("GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(30)).await;
    let (mut read, mut pace) = (0, tokio::time::interval(Duration::from_millis(50)));
    while client.until("\"openapi\":").await.is_some() {
        read += 1;
        pace.tick().await;
    }
    assert_eq!(read, 30);
}
