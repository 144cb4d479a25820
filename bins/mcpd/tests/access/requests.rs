//! Each form of request ends, at whichever step it is: in a queue, between retries, at a fallback, behind a reader who does not
//! read.

use mcpctl_testkit::{
    central::Central,
    daemons::eventually,
    model_server::{ModelServer, Reply},
    raw::RawConnection,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
};

const REVOKED: &str = "access_revoked";

async fn revoke(central: &Central, binding: &str) {
    let path = format!("/api/v1/rolebindings/{binding}");
    let gone = central.mcpd.delete(&path, &central.mcpd.admin()).await;
    assert_eq!(gone.status(), StatusCode::NO_CONTENT);
}

async fn grant(central: &Central, binding: &str, llm: &str) {
    central
        .mcpd
        .apply(json!([
            {"kind": "Role", "name": binding, "rules": [{"kinds": ["llms"], "verbs": ["run"], "names": [llm]}]},
            {"kind": "RoleBinding", "name": binding, "role": binding, "subjects": [{"kind": "User", "name": "alice"}]},
        ]))
        .await;
}

/// An mcpd whose Llms have no timeout that is shorter than a test.
async fn central(llms: &[&str]) -> Central {
    let central = Central::start_with_rules(&[], json!([])).await;
    for llm in llms {
        central.mcpd.llm_with_default_timeouts(llm, &central.provider.base_url()).await;
        grant(&central, &format!("may-{llm}"), llm).await;
    }
    central
}

fn chat(llm: &str, stream: bool) -> Value {
    json!({"model": llm, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]})
}

#[tokio::test]
async fn inv_06_every_form_of_request_ends() {
    let central = central(&["claude", "anthropic"]).await;
    let url = central.provider.base_url().trim_end_matches("/v1").to_owned();
    let anthropic =
        json!({"kind": "Llm", "name": "anthropic", "type": "anthropic", "url": url, "model": "m"});
    central.mcpd.apply(json!([anthropic])).await;
    let messages = json!([{"role": "user", "content": "Hi"}]);
    for (path, llm, body, streams) in [
        ("/v1/chat/completions", "claude", json!({"messages": messages}), true),
        ("/v1/chat/completions", "anthropic", json!({"messages": messages}), true),
        ("/v1/completions", "claude", json!({"prompt": "Hi"}), true),
        ("/v1/embeddings", "claude", json!({"input": "Hi"}), false),
        ("/v1/responses", "claude", json!({"input": "Hi"}), true),
        ("/v1/messages", "claude", json!({"max_tokens": 9, "messages": messages}), true),
        ("/v1/messages", "anthropic", json!({"max_tokens": 9, "messages": messages}), true),
        ("/v1/messages/count_tokens", "anthropic", json!({"messages": messages}), false),
        ("/api/v1/llms/claude/infer", "claude", json!({"messages": messages}), true),
    ] {
        for stream in if streams { &[false, true][..] } else { &[false] } {
            let form = format!("{path} of `{llm}`, stream {stream}");
            let hangs = if *stream { Reply::text("one two").stall_after(1) } else { Reply::hang() };
            central.provider.queue(hangs);
            let mut body = body.clone();
            body["model"] = llm.into();
            if *stream {
                body["stream"] = true.into();
            }
            let (asked, left) = (central.provider.requests().len(), central.provider.disconnects());
            let request = central.mcpd.request(Method::POST, path, &central.alice).json(&body);
            let answer = tokio::spawn(async move {
                let answer = request.send().await.unwrap();
                (answer.status(), answer.text().await.unwrap())
            });
            central.provider.wait_for_requests(asked + 1).await;
            revoke(&central, &format!("may-{llm}")).await;
            let (status, text) = answer.await.unwrap();
            // A stream may have lost access before its first content.
            assert!(status == StatusCode::FORBIDDEN || *stream && status == StatusCode::OK, "{form}: {text}");
            assert!(text.contains(REVOKED), "{form}: {text}");
            for end in ["[DONE]", "message_stop", "response.completed"] {
                assert!(!text.contains(end), "{form}: {text}");
            }
            central.provider.wait_for_disconnects(left + 1).await;
            grant(&central, &format!("may-{llm}"), llm).await;
        }
    }
}

/// A rotation makes the old secret expire sooner, and no later change wakes the check.
#[tokio::test]
async fn inv_06_a_stream_ends_with_the_grace_of_a_rotated_token() {
    let central = central(&["claude"]).await;
    central.provider.queue(Reply::text("one two").stall_after(1));
    let request = central.mcpd.request(Method::POST, "/v1/chat/completions", &central.alice);
    let answer = request.json(&chat("claude", true)).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let path = "/api/v1/tokens/alice-token/rotate";
    let rotated = central.mcpd.post(path, &central.mcpd.admin(), &json!({"grace": "1s"})).await;
    assert_eq!(rotated.status(), StatusCode::CREATED);
    let text = answer.text().await.unwrap();
    assert!(text.contains(REVOKED) && !text.contains("[DONE]"), "{text}");
}

/// The credential was accepted before the body came, and no change of a resource follows.
#[tokio::test]
async fn inv_06_a_credential_that_expires_during_the_upload_sends_nothing() {
    let central = central(&["claude"]).await;
    let (alice, body) = (&central.alice, chat("claude", false).to_string());
    let (sent, rest) = body.split_at(10);
    let mut client = RawConnection::connect(central.mcpd.url()).await;
    let path = "/api/v1/tokens/alice-token/rotate";
    let rotated = central.mcpd.post(path, &central.mcpd.admin(), &json!({"grace": "2s"})).await;
    assert_eq!(rotated.status(), StatusCode::CREATED);
    client
        .send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {alice}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{sent}",
            body.len()
        ))
        .await;
    eventually("the token expires", || async {
        let models = central.mcpd.get("/v1/models", alice).await;
        (models.status() == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    client.send(rest).await;
    let answer = client.until("\r\n\r\n").await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(central.provider.requests().len(), 0);
}

#[tokio::test]
async fn inv_06_a_stream_that_is_not_read_ends() {
    let central = central(&["claude"]).await;
    let text = format!("{} ", "x".repeat(60_000)).repeat(400);
    central.provider.queue(Reply::text(&text));
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = central.mcpd.url().trim_start_matches("http://").parse().unwrap();
    let mut client = socket.connect(address).await.unwrap();
    let (alice, body) = (&central.alice, chat("claude", true).to_string());
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {alice}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    revoke(&central, "may-claude").await;
    central.provider.wait_for_disconnects(1).await;
    assert_eq!(central.provider.completed(), 0);
    let mut rest = Vec::new();
    let mut piece = vec![0; 1 << 20];
    while !rest.ends_with(b"0\r\n\r\n") {
        let read = client.read(&mut piece).await.unwrap();
        assert!(read > 0, "the body has its end");
        rest.extend_from_slice(&piece[..read]);
    }
    let rest = String::from_utf8_lossy(&rest);
    assert!(rest.contains(REVOKED) && !rest.contains("[DONE]"));
    assert!(rest.len() < text.len() / 2, "{} bytes were sent after the revocation", rest.len());
}

#[tokio::test]
async fn a_request_behind_a_cut_stream_is_denied_in_its_turn() {
    let central = central(&["claude"]).await;
    central.provider.queue(Reply::text("one two").stall_after(1));
    let mut client = RawConnection::connect(central.mcpd.url()).await;
    let request = |stream| {
        let (alice, body) = (&central.alice, chat("claude", stream).to_string());
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {alice}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    client.send(request(true) + &request(false)).await;
    client.until("one").await.expect("the first content");
    revoke(&central, "may-claude").await;
    let cut = client.until("0\r\n\r\n").await.expect("the end of the stream");
    assert!(cut.contains(REVOKED), "{cut}");
    let next = client.until("\r\n\r\n").await.expect("the next answer");
    assert!(next.starts_with("HTTP/1.1 403"), "{next}");
    assert_eq!(central.provider.requests().len(), 1);
}

#[tokio::test]
async fn inv_06_a_request_between_retries_ends() {
    let central = central(&["claude"]).await;
    central.provider.set_default(Reply::rate_limited("5"));
    let request = central.mcpd.request(Method::POST, "/v1/chat/completions", &central.alice);
    let request = request.json(&chat("claude", false));
    let answer = tokio::spawn(async move { request.send().await.unwrap() });
    central.provider.wait_for_requests(1).await;
    revoke(&central, "may-claude").await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert!(answer.text().await.unwrap().contains(REVOKED));
    assert_eq!(central.provider.requests().len(), 1, "no retry after the revocation");
}

#[tokio::test]
async fn inv_06_a_fallback_needs_the_right_to_both_llms() {
    for lost in ["may-first", "may-second"] {
        let central = central(&["second"]).await;
        let down = ModelServer::with_default(Reply::error(500, "down", "down")).await;
        let (llm, fallback) = ("first", json!([{"llm": "second"}]));
        central
            .mcpd
            .apply(
                json!([{"kind": "Llm", "name": llm, "type": "openai", "url": down.base_url(), "model": "m",
                "retries": {"max": 0}, "fallbacks": fallback}]),
            )
            .await;
        grant(&central, "may-first", llm).await;
        central.provider.queue(Reply::text("one two").stall_after(1));
        let answer = central.mcpd.post("/v1/chat/completions", &central.alice, &chat(llm, true)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["mcpctl-served-by"], "second");
        revoke(&central, lost).await;
        let rest = answer.text().await.unwrap();
        assert!(rest.contains(REVOKED) && !rest.contains("[DONE]"), "{lost}: {rest}");
        central.provider.wait_for_disconnects(1).await;
    }
}

/// A fallback that the caller lost while the first Llm was tried is left out, as it is for a new request.
#[tokio::test]
async fn inv_07_a_fallback_that_was_lost_meanwhile_is_left_out() {
    let central = central(&["second"]).await;
    let gate = mcpctl_testkit::model_server::Gate::new();
    let fails = Reply::error(500, "down", "down")
        .before_head(mcpctl_testkit::model_server::Pause::Gate(gate.clone()));
    let down = ModelServer::with_default(fails).await;
    central
        .mcpd
        .apply(
            json!([{"kind": "Llm", "name": "first", "type": "openai", "url": down.base_url(), "model": "m",
            "retries": {"max": 0}, "fallbacks": [{"llm": "second"}]}]),
        )
        .await;
    grant(&central, "may-first", "first").await;
    let request = central.mcpd.request(Method::POST, "/v1/chat/completions", &central.alice);
    let request = request.json(&chat("first", false));
    let answer = tokio::spawn(async move { request.send().await.unwrap() });
    down.wait_for_requests(1).await;
    revoke(&central, "may-second").await;
    // The running request has seen the revocation once a request that came after it is refused and a watch has shown it.
    eventually("the revocation holds", async || {
        let refused = central.mcpd.post("/v1/chat/completions", &central.alice, &chat("second", false)).await;
        (refused.status() == StatusCode::FORBIDDEN).then_some(())
    })
    .await;
    gate.release();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR, "the first Llm's own error");
    assert!(central.provider.requests().is_empty(), "the fallback was asked");
}

/// `midStream` goes on with what a provider broke, never with what the caller may not have any more.
#[tokio::test]
async fn inv_06_what_was_cut_is_not_restarted() {
    let central = central(&["first", "second"]).await;
    let url = central.provider.base_url();
    central
        .mcpd
        .apply(json!([{"kind": "Llm", "name": "first", "type": "openai", "url": url, "model": "m",
            "midStream": "restart", "fallbacks": [{"llm": "second"}]}]))
        .await;
    // The first attempt breaks, and the one that goes on with it stalls.
    central.provider.queue(Reply::text("one two three").cut_after(1));
    central.provider.queue(Reply::text("one two three").stall_after(2));
    let mut answer = central.mcpd.post("/v1/chat/completions", &central.alice, &chat("first", true)).await;
    let mut text = String::new();
    while !text.contains("two") {
        text.push_str(&String::from_utf8_lossy(&answer.chunk().await.unwrap().expect("the second attempt")));
    }
    assert_eq!(central.provider.requests().len(), 2);
    revoke(&central, "may-second").await;
    let rest = answer.text().await.unwrap();
    assert!(rest.contains(REVOKED) && !rest.contains("[DONE]"), "{rest}");
    central.provider.wait_for_disconnects(1).await;
    assert_eq!(central.provider.requests().len(), 2, "nothing goes on with it");
}
